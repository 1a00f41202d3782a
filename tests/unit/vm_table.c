/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Every state of a vCPU times every event: the table of docs/states.md, cell by cell. The vCPU is number 1 of a VM of two
 * whose vCPU 0 is the boot set, so that the target decides about it alone.
 */

#include "tests/unit/vm_cases.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/vm_host.h"

/*
 * A state is the letter of its flags and the guest's answer: '.' none, 'p' in progress, 'r' refused, 'f' forbidden. A cell
 * is the state afterwards, `desired`, and how the job ended that was in flight:
 * '.' it did not, '=' done, 'r' refused, 'f' forbidden, 't' timeout, 's' superseded, 'd' disconnected, 'x' storage.
 */
static const struct {
	char letter;
	uint8_t flags;
} letters[] = {
	{'D', 0},
	{'V', VCPU_ONLINE},                /* overdue */
	{'G', VCPU_ENABLED | VCPU_WANTED}, /* granted, not durable */
	{'H', VCPU_ENABLED | VCPU_WANTED | VCPU_ONLINE},
	{'I', VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE}, /* shown to the guest */
	{'A', VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE | VCPU_ACKED},
	{'N', VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE | VCPU_ONLINE},
	{'O', VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE | VCPU_ONLINE | VCPU_ACKED},
	{'e', VCPU_ENABLED | VCPU_DURABLE}, /* asked back */
	{'f', VCPU_ENABLED | VCPU_DURABLE | VCPU_ONLINE},
	{'E', VCPU_ENABLED | VCPU_DURABLE | VCPU_ACKED},
	{'F', VCPU_ENABLED | VCPU_DURABLE | VCPU_ONLINE | VCPU_ACKED},
};

static char letter_of(uint8_t flags)
{
	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
		if (letters[i].flags == (flags & ~(VCPU_IN_JOB | VCPU_OVERDUE)))
			return letters[i].letter;
	}
	return '?';
}

/* ---- events ---- */

static void stored(struct vm_host *h)
{
	uint8_t enabled[1], wanted[1];

	vm_record_grants(h->vm, enabled, wanted);
	EVENT(h, vm_stored(h->vm, h->vm->revision, true, enabled, h->now));
}

static void ost(struct vm_host *h, uint32_t event, uint32_t status)
{
	EVENT(h, vm_ost(h->vm, 1, event, status, h->now));
}

static void on(struct vm_host *h)
{
	EVENT(h, vm_power_on(h->vm, 1, CPUPOLICY_REASON_GRANTED, h->now));
}

static void off(struct vm_host *h)
{
	EVENT(h, vm_power_off(h->vm, 1, h->now));
}

static void acked(struct vm_host *h)
{
	ost(h, 1, 0);
}

static void insert_failed(struct vm_host *h)
{
	ost(h, 1, 1);
}

static void inserting(struct vm_host *h)
{
	ost(h, 1, 0x80);
}

static void ejecting(struct vm_host *h)
{
	ost(h, 3, 0x84);
}

static void eject_done(struct vm_host *h)
{
	ost(h, 3, 0);
}

static void eject_busy(struct vm_host *h)
{
	ost(h, 3, 0x82);
}

static void eject_forbidden(struct vm_host *h)
{
	ost(h, 3, 0x80);
}

static void own_eject_said(struct vm_host *h)
{
	ost(h, 0x103, 0);
}

static void eject_requested(struct vm_host *h)
{
	EVENT(h, vm_eject(h->vm, 1, CPUPOLICY_EJECT_REQUESTED, h->now));
}

static void eject_guest(struct vm_host *h)
{
	EVENT(h, vm_eject(h->vm, 1, CPUPOLICY_EJECT_GUEST, h->now));
}

static void eject_reset(struct vm_host *h)
{
	EVENT(h, vm_eject(h->vm, 1, CPUPOLICY_EJECT_RESET, h->now));
}

static void reset(struct vm_host *h)
{
	EVENT(h, vm_reset(h->vm, h->now));
}

static void grow(struct vm_host *h)
{
	vm_host_resize(h, 2);
}

static void shrink(struct vm_host *h)
{
	vm_host_resize(h, 1);
}

static void paused(struct vm_host *h)
{
	EVENT(h, vm_run_state(h->vm, CPUPOLICY_RUN_PAUSED, h->now));
}

static void lost(struct vm_host *h)
{
	EVENT(h, vm_lost(h->vm, false, h->now));
}

static void gone(struct vm_host *h)
{
	EVENT(h, vm_lost(h->vm, true, h->now));
}

static void resumed(struct vm_host *h)
{
	EVENT(h, vm_resume(h->vm, vm_host_report(h, NULL), h->now));
}

static const uint32_t ejected[] = {CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_EJECTED};
static const uint32_t ejected_own[] = {CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_EJECTED | CPUPOLICY_VCPU_EJECT_OWN};

static void resumed_ejected(struct vm_host *h)
{
	EVENT(h, vm_resume(h->vm, vm_host_report(h, ejected), h->now));
}

static void resumed_own(struct vm_host *h)
{
	EVENT(h, vm_resume(h->vm, vm_host_report(h, ejected_own), h->now));
}

static void state_ejected(struct vm_host *h)
{
	EVENT(h, vm_state(h->vm, CPUPOLICY_RUN_RUNNING, vm_host_report(h, ejected_own)->vcpus, h->now));
}

static void expired(struct vm_host *h)
{
	h->now += TIMEOUT;
	EVENT(h, vm_tick(h->vm, h->now));
}

static const struct {
	const char *name;
	void (*run)(struct vm_host *h);
} events[] = {
	{"stored", stored},
	{"not stored", vm_host_failed},
	{"power on", on},
	{"power off", off},
	{"_OST 1 0", acked},
	{"_OST 1 1", insert_failed},
	{"_OST 1 0x80", inserting},
	{"_OST 3 0x84", ejecting},
	{"_OST 3 0", eject_done},
	{"_OST 3 0x82", eject_busy},
	{"_OST 3 0x80", eject_forbidden},
	{"_OST 0x103 0", own_eject_said},
	{"eject, requested", eject_requested},
	{"eject, the guest's own", eject_guest},
	{"eject, by reset", eject_reset},
	{"reset", reset},
	{"resize to 2", grow},
	{"resize to 1", shrink},
	{"paused", paused},
	{"disconnected", lost},
	{"gone", gone},
	{"resumed", resumed},
	{"resumed, ejected", resumed_ejected},
	{"resumed, ejected by itself", resumed_own},
	{"state, ejected", state_ejected},
	{"deadline", expired},
};

/* ---- the table ---- */

#define COLUMNS (sizeof(events) / sizeof(events[0]))

/* clang-format off */
/* How each state is reached from a VM that was started with one vCPU; then a cell for each event, in the order above. */
static const struct {
	const char *state;
	void (*path[7])(struct vm_host *h);
	const char *cells;
} rows[] = {
	{ "D.1", { NULL },
	  "D.1. D.1. V.1. D.1. D.1. D.1. D.1. D.1. D.1. D.1. D.1. D.1. D.1. D.1. D.1. D.1. G.2. D.1. D.1. D.1. D.1. "
	  "D.1. D.1. D.1. D.1. D.1." },
	{ "V.1", { on },
	  "V.1. V.1. V.1. D.1. V.1. V.1. V.1. V.1. V.1. V.1. V.1. V.1. D.1. D.1. D.1. D.1. H.2. V.1. V.1. V.1. D.1. "
	  "V.1. D.1. D.1. D.1. V.1." },
	{ "G.2", { grow },
	  "I.2. D.1x H.2. G.2. G.2. G.2. G.2. G.2. G.2. G.2. G.2. G.2. G.2. G.2. G.2. G.2. G.2s D.1s G.2. G.2. D.2. "
	  "G.2. G.2. G.2. G.2. G.2." },
	{ "H.2", { on, grow },
	  "N.2= V.1x H.2. G.2. H.2. H.2. H.2. H.2. H.2. H.2. H.2. H.2. G.2. G.2. G.2. G.2. H.2s V.1s H.2. H.2. D.2. "
	  "H.2. G.2. G.2. G.2. H.2." },
	{ "I.2", { grow, stored },
	  "I.2. I.2. O.2= I.2. A.2= Ir2r Ip2. I.2. I.2. I.2. I.2. I.2. G.2. Dr1r G.2. A.2= I.2s e.1s I.2. I.2. D.2d "
	  "I.2. I.2. Dr1r I.2. I.2t" },
	{ "Ip2", { grow, stored, inserting },
	  "Ip2. Ip2. O.2= Ip2. A.2= Ir2r Ip2. Ip2. Ip2. Ip2. Ip2. Ip2. G.2. Dr1r G.2. A.2= I.2s e.1s Ip2. Ip2. D.2d "
	  "Ip2. I.2. Dr1r I.2. Ip2t" },
	{ "Ir2", { grow, stored, insert_failed, stored },
	  "Ir2. Ir2. O.2. Ir2. A.2. Ir2. Ip2. Ir2. Ir2. Ir2. Ir2. Ir2. G.2. D.1. G.2. A.2. I.2. e.1. Ir2. Ir2. D.2. "
	  "Ir2. I.2. D.1. I.2. Ir2." },
	{ "A.2", { grow, stored, acked, stored },
	  "A.2. A.2. O.2. A.2. A.2. A.2. A.2. A.2. A.2. A.2. A.2. A.2. G.2. D.1. G.2. A.2. A.2. E.1. A.2. A.2. D.2. "
	  "A.2. I.2. D.1. I.2. A.2." },
	{ "N.2", { on, grow, stored, stored },
	  "N.2. N.2. O.2. I.2. O.2. N.2. N.2. N.2. N.2. N.2. N.2. N.2. G.2. D.1. G.2. A.2. N.2. f.1. N.2. N.2. D.2. "
	  "N.2. I.2. D.1. I.2. N.2." },
	{ "O.2", { grow, stored, on, stored },
	  "O.2. O.2. O.2. A.2. O.2. O.2. O.2. O.2. O.2. O.2. O.2. O.2. G.2. D.1. G.2. A.2. O.2. F.1. O.2. O.2. D.2. "
	  "O.2. I.2. D.1. I.2. O.2." },
	{ "e.1", { grow, stored, shrink, stored },
	  "e.1. e.1. F.1. e.1. E.1. e.1. e.1. ep1. e.1. er1r ef1f e.1. D.1= D.1= D.1= D.1= I.2s e.1s e.1. e.1. D.1d "
	  "e.1. D.1= D.1= D.1= e.1t" },
	{ "f.1", { on, grow, stored, stored, shrink, stored },
	  "f.1. f.1. F.1. e.1. F.1. f.1. f.1. fp1. f.1. fr1r ff1f f.1. D.1= D.1= D.1= D.1= N.2s f.1s f.1. f.1. D.1d "
	  "f.1. D.1= D.1= D.1= f.1t" },
	{ "E.1", { grow, stored, acked, stored, shrink, stored },
	  "E.1. E.1. F.1. E.1. E.1. E.1. E.1. Ep1. E.1. Er1r Ef1f E.1. D.1= D.1= D.1= D.1= A.2s E.1s E.1. E.1. D.1d "
	  "E.1. D.1= D.1= D.1= E.1t" },
	{ "Ep1", { grow, stored, acked, shrink, stored, ejecting },
	  "Ep1. Ep1. Fp1. Ep1. Ep1. Ep1. Ep1. Ep1. Ep1. Er1r Ef1f Ep1. D.1= D.1= D.1= D.1= A.2s E.1s Ep1. Ep1. D.1d "
	  "Ep1. D.1= D.1= D.1= Ep1t" },
	{ "Er1", { grow, stored, acked, shrink, stored, eject_busy, stored },
	  "Er1. Er1. Fr1. Er1. Er1. Er1. Er1. Ep1. Er1. Er1. Ef1. Er1. D.1. D.1. D.1. D.1. A.2. E.1. Er1. Er1. D.1. "
	  "Er1. D.1. D.1. D.1. Er1." },
	{ "Ef1", { grow, stored, acked, shrink, stored, eject_forbidden, stored },
	  "Ef1. Ef1. Ff1. Ef1. Ef1. Ef1. Ef1. Ep1. Ef1. Er1. Ef1. Ef1. D.1. D.1. D.1. D.1. A.2. E.1. Ef1. Ef1. D.1. "
	  "Ef1. D.1. D.1. D.1. Ef1." },
	{ "F.1", { grow, stored, on, shrink, stored },
	  "F.1. F.1. F.1. E.1. F.1. F.1. F.1. Fp1. F.1. Fr1r Ff1f F.1. D.1= D.1= D.1= D.1= O.2s F.1s F.1. F.1. D.1d "
	  "F.1. D.1= D.1= D.1= F.1t" },
	/* stopped: nothing of a guest that is not there counts */
	{ "D.2", { grow, stored, gone, stored },
	  "D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.2. D.1. D.2. D.2. D.2. "
	  "               D.2. D.2." },
};
/* clang-format on */

static char ended(uint64_t before, const struct vm *vm)
{
	static const char results[] = ".=prftsdx";

	return vm->last_job.id == before ? '.' : results[vm->last_job.result];
}

static void state_text(const struct vm *vm, char text[static 4])
{
	text[0] = letter_of(vm->vcpus[1].flags);
	text[1] = ".prf"[vm->vcpus[1].answer];
	text[2] = (char)('0' + vm->desired);
	text[3] = '\0';
}

static void try_cell(size_t row, size_t column)
{
	char before[4], after[4], expected[5];
	struct vm_host h;
	uint64_t job;

	vm_host_setup(&h, 2);
	vm_host_start(&h, 1, CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE);
	for (size_t i = 0; i < 7 && rows[row].path[i]; i++)
		rows[row].path[i](&h);
	state_text(h.vm, before);
	ck_assert_msg(strcmp(before, rows[row].state) == 0, "row %s is %s", rows[row].state, before);
	memcpy(expected, rows[row].cells + column * 5, 4);
	expected[4] = '\0';
	/* Of a stopped VM: it comes back by vm_start() only. */
	if (strcmp(expected, "    ") != 0) {
		job = h.vm->last_job.id;
		events[column].run(&h);
		state_text(h.vm, after);
		ck_assert_msg(strncmp(after, expected, 3) == 0 && ended(job, h.vm) == expected[3],
			      "%s, %s: %s%c, not %s", before, events[column].name, after, ended(job, h.vm), expected);
	}
	vm_host_done(&h);
}

START_TEST(every_state_every_event)
{
	ck_assert_uint_eq(strlen(rows[_i].cells), COLUMNS * 5 - 1);
	for (size_t column = 0; column < COLUMNS; column++)
		try_cell((size_t)_i, column);
}
END_TEST

TCase *vm_table_case(void)
{
	TCase *t = tcase_create("every state times every event");

	tcase_add_loop_test(t, every_state_every_event, 0, sizeof(rows) / sizeof(rows[0]));
	return t;
}
