/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <errno.h>
#include <string.h>

#include "daemon/core/plug.h"
#include "proto/page.h"
#include "tests/unit/vm_cases.h"
#include "tests/unit/vm_host.h"

#define NOTIFY    CPUPOLICY_REG_NOTIFY
#define REMOVABLE CPUPOLICY_REG_BOOT_REMOVABLE
#define BOTH      (NOTIFY | REMOVABLE)

START_TEST(sizes)
{
	const struct service_class level = {.guaranteed = 1, .limit = 4};
	struct vm *const untouched = (struct vm *)8;
	struct vm *vm = untouched;

	ck_assert_int_eq(vm_new(&vm, 0, &level), -EINVAL);
	ck_assert_int_eq(vm_new(&vm, CPUPOLICY_MAX_VCPUS + 1, &level), -EINVAL);
	ck_assert_ptr_eq(vm, untouched);
	ck_assert_int_eq(vm_new(&vm, CPUPOLICY_MAX_VCPUS, &level), 0);
	ck_assert_int_eq(vm->link, VM_STOPPED);
	ck_assert_uint_eq(vm->desired, 0);
	ck_assert(!vm->desired_set);
	ck_assert_ptr_null(vm_free(vm));
	ck_assert_ptr_null(vm_free(NULL));
}
END_TEST

START_TEST(target)
{
	static const struct {
		uint32_t desired, limit, allowance, target; /* of 6 possible */
	} rows[] = {
		{0, 6, 9, 1}, {1, 6, 9, 1}, {6, 6, 9, 6}, {7, 512, 9, 6}, {5, 4, 9, 4},
		{4, 4, 4, 4}, {5, 6, 3, 3}, {5, 2, 3, 2}, {5, 6, 0, 1},   {0, 6, 0, 1},
	};
	struct vm_host h;

	vm_host_setup(&h, 6);
	h.vm->link = VM_DISCONNECTED;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		h.level.limit = rows[i].limit;
		h.vm->allowance = rows[i].allowance;
		h.vm->desired = rows[i].desired;
		ck_assert_msg(vm_target(h.vm) == rows[i].target, "row %zu: %u", i, vm_target(h.vm));
	}
	/* What is stopped has no room, and needs none. */
	h.vm->link = VM_STOPPED;
	h.vm->desired = 5;
	h.vm->allowance = 0;
	ck_assert_uint_eq(vm_target(h.vm), 5);
	vm_host_done(&h);
}
END_TEST

START_TEST(start)
{
	static const uint32_t online[] = {CPUPOLICY_VCPU_ONLINE, 0, CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_ONLINE};
	struct vm_counts n;
	struct vm_host h;

	vm_host_setup(&h, 4);
	vm_host_start_flags(&h, 3, BOTH, online);
	/* Nothing but vCPU 0 before it is on disk. */
	ck_assert_str_eq(vm_host_flags(&h), "EWDOA EWA EWOA O");
	ck_assert_uint_eq(h.effects & (VM_EFFECT_PAGE | VM_EFFECT_STORE), VM_EFFECT_PAGE | VM_EFFECT_STORE);
	ck_assert_uint_eq(vm_word(h.vm, 1) & CPUPOLICY_WORD_ENABLED, 0);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_flags(&h), "EWDOA EWDA EWDOA O");
	ck_assert_uint_eq(h.effects & VM_EFFECT_PAGE, VM_EFFECT_PAGE);
	ck_assert_uint_eq(vm_word(h.vm, 1) & CPUPOLICY_WORD_ENABLED, CPUPOLICY_WORD_ENABLED);
	ck_assert_uint_eq(h.vm->desired, 3);
	ck_assert_uint_eq(h.vm->boot, 3);
	ck_assert(!h.vm->desired_set);
	ck_assert(h.vm->notify && h.vm->boot_removable);
	ck_assert_uint_eq(h.vm->epoch, 1);
	ck_assert_uint_eq(h.vm->job.id, 0);
	/* It came from another host with a vCPU that it may not have here. */
	vm_counts(h.vm, &n);
	ck_assert_uint_eq(n.enabled, 3);
	ck_assert_uint_eq(n.wanted, 3);
	ck_assert_uint_eq(n.online, 3);
	ck_assert_uint_eq(n.acked, 3);
	ck_assert_uint_eq(n.overdue, 1);
	vm_host_done(&h);
}
END_TEST

START_TEST(start_within_the_level)
{
	struct vm_host h;

	vm_host_setup(&h, 6);
	h.level.limit = 3;
	vm_host_start(&h, 5, NOTIFY);
	ck_assert_str_eq(vm_host_set(&h), "xxx---");
	ck_assert_uint_eq(h.vm->desired, 5);
	ck_assert_uint_eq(h.vm->boot, 3);
	vm_host_done(&h);
}
END_TEST

START_TEST(an_operators_count_outlives_the_vm)
{
	struct vm_host h;

	vm_host_setup(&h, 6);
	ck_assert_int_eq(vm_host_try(&h, 5), VM_ACCEPTED);
	ck_assert_uint_eq(h.vm->job.id, 1);
	ck_assert_uint_eq(h.vm->job.from, 1);
	vm_host_stored(&h);
	ck_assert_int_eq(h.vm->last_job.result, JOB_DISCONNECTED);
	ck_assert_str_eq(vm_host_set(&h), "------");
	vm_host_start(&h, 2, BOTH);
	ck_assert_str_eq(vm_host_set(&h), "xxxxx-");
	EVENT(&h, vm_lost(h.vm, true, h.now));
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_flags(&h), "- - - - - -");
	vm_host_start(&h, 2, BOTH);
	ck_assert_str_eq(vm_host_set(&h), "xxxxx-");
	ck_assert_uint_eq(h.vm->epoch, 2);
	vm_host_done(&h);
}
END_TEST

/* Started before the count that it starts with is on disk: then the start makes it so. */
START_TEST(start_under_a_request)
{
	struct vm_host h;

	vm_host_setup(&h, 4);
	vm_host_resize(&h, 3);
	vm_host_start_flags(&h, 1, BOTH, NULL);
	ck_assert_uint_eq(h.vm->job.id, 1);
	vm_host_stored(&h);
	ck_assert_int_eq(h.vm->last_job.result, JOB_DONE);
	ck_assert_str_eq(vm_host_set(&h), "xxx-");
	vm_host_done(&h);

	/* It failed: the VM has what its VMM proposed. */
	vm_host_setup(&h, 4);
	vm_host_resize(&h, 3);
	vm_host_start_flags(&h, 2, BOTH, NULL);
	EVENT(&h, vm_stored(h.vm, 1, false, NULL, h.now));
	ck_assert_int_eq(h.vm->last_job.result, JOB_STORAGE);
	vm_host_stored(&h);
	ck_assert_uint_eq(h.vm->desired, 2);
	ck_assert(!h.vm->desired_set);
	ck_assert_str_eq(vm_host_set(&h), "xx--");
	vm_host_done(&h);
}
END_TEST

START_TEST(a_start_that_cannot_be_stored)
{
	struct vm_host h;

	vm_host_setup(&h, 4);
	vm_host_start_flags(&h, 3, BOTH, NULL);
	vm_host_failed(&h);
	ck_assert_str_eq(vm_host_flags(&h), "EWDA - - -");
	vm_host_done(&h);
}
END_TEST

START_TEST(resume_takes_over_what_the_guest_did)
{
	static const uint32_t report[] = {
		CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED,
		CPUPOLICY_VCPU_ACKED,
		CPUPOLICY_VCPU_EJECTED,                            /* asked for, then withdrawn */
		CPUPOLICY_VCPU_EJECTED | CPUPOLICY_VCPU_EJECT_OWN, /* its own idea */
		CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED,
		CPUPOLICY_VCPU_ONLINE, /* was never granted */
	};
	struct vm_host h;
	uint64_t word;

	vm_host_setup(&h, 6);
	vm_host_start(&h, 5, BOTH);
	EVENT(&h, vm_power_on(h.vm, 1, CPUPOLICY_REASON_GRANTED, h.now));
	EVENT(&h, vm_lost(h.vm, false, h.now));
	ck_assert_int_eq(h.vm->link, VM_DISCONNECTED);
	ck_assert_str_eq(vm_host_set(&h), "xxxxx-");
	word = vm_word(h.vm, 2);
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, report), h.now));
	ck_assert_str_eq(vm_host_flags(&h), "EWDOA EWDA EWD - EWDOA O");
	ck_assert_uint_eq(h.vm->desired, 4);
	ck_assert_uint_eq(h.vm->epoch, 2);
	ck_assert_uint_eq(h.vm->generation, 1);
	ck_assert_uint_eq(h.effects & (VM_EFFECT_STORE | VM_EFFECT_PAGE), VM_EFFECT_STORE | VM_EFFECT_PAGE);
	/* The VMM holds vCPU 2 for given back until it sees another grant. */
	ck_assert_uint_ne(vm_word(h.vm, 2) >> CPUPOLICY_WORD_GRANT_SHIFT, word >> CPUPOLICY_WORD_GRANT_SHIFT);
	vm_host_done(&h);
}
END_TEST

/* What it ejected was an older grant: the operator's newer word stands. */
START_TEST(resume_after_a_grant_that_the_vmm_never_saw)
{
	static const uint32_t own[] = {CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_EJECTED | CPUPOLICY_VCPU_EJECT_OWN};
	struct vm_host h;

	vm_host_setup(&h, 2);
	vm_host_start(&h, 2, BOTH);
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	vm_host_stored(&h);
	ck_assert_uint_eq(h.vm->desired, 1);
	EVENT(&h, vm_lost(h.vm, false, h.now));
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, own), h.now));
	vm_host_stored(&h);
	ck_assert_uint_eq(h.vm->desired, 2);
	ck_assert_str_eq(vm_host_set(&h), "xx");
	ck_assert_uint_eq(h.vm->job.id, 1);
	vm_host_done(&h);
}
END_TEST

/* Generations begin anew: one of the last session says nothing of what the VMM has seen in this one. */
START_TEST(what_a_new_session_shows_first)
{
	static const uint32_t both[] = {CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_ACKED};
	static const uint32_t gone[] = {CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_EJECTED};
	struct vm_host h;

	vm_host_new(&h, 2, 1, BOTH);
	for (int i = 0; i < 3; i++) {
		vm_host_resize(&h, 2);
		vm_host_stored(&h);
		vm_host_resize(&h, 1);
		vm_host_stored(&h);
		if (i < 2)
			vm_host_ejected(&h, 1);
	}
	ck_assert_uint_gt(h.vm->vcpus[1].since, 2);
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, both), h.now));
	ck_assert_str_eq(vm_host_set(&h), "xo");
	EVENT(&h, vm_state(h.vm, CPUPOLICY_RUN_RUNNING, vm_host_report(&h, gone)->vcpus, h.now));
	ck_assert_str_eq(vm_host_set(&h), "x-");
	vm_host_done(&h);
}
END_TEST

/* The VMM wrote its report before it saw that the vCPU was given anew: it says nothing of the new grant. */
START_TEST(a_report_from_before_the_grant)
{
	static const uint32_t gone[] = {CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_EJECTED};
	struct vm_host h;

	vm_host_new(&h, 2, 2, BOTH);
	h.confirm = false;
	EVENT(&h, vm_state(h.vm, CPUPOLICY_RUN_RUNNING, vm_host_report(&h, gone)->vcpus, h.now));
	ck_assert_uint_eq(h.vm->vcpus[1].grant, 2);
	vm_host_resize(&h, 1);
	vm_host_stored(&h);
	EVENT(&h, vm_state(h.vm, CPUPOLICY_RUN_RUNNING, vm_host_report(&h, gone)->vcpus, h.now));
	ck_assert_str_eq(vm_host_set(&h), "xo");
	vm_confirm(h.vm, h.vm->epoch, h.vm->generation);
	EVENT(&h, vm_state(h.vm, CPUPOLICY_RUN_RUNNING, vm_host_report(&h, gone)->vcpus, h.now));
	ck_assert_str_eq(vm_host_set(&h), "x-");
	vm_host_done(&h);
}
END_TEST

START_TEST(resume_under_another_level)
{
	struct vm_host h;

	vm_host_setup(&h, 6);
	vm_host_start(&h, 5, BOTH);
	EVENT(&h, vm_lost(h.vm, false, h.now));
	h.level.limit = 3;
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, NULL), h.now));
	ck_assert_str_eq(vm_host_set(&h), "xxxoo-");
	vm_host_done(&h);

	/* Boot vCPUs that may not be taken stay. */
	vm_host_setup(&h, 6);
	vm_host_start(&h, 4, NOTIFY);
	vm_host_resize(&h, 6);
	vm_host_stored(&h);
	EVENT(&h, vm_lost(h.vm, false, h.now));
	h.level.limit = 3;
	{
		struct vm_registration reg = *vm_host_report(&h, NULL);

		reg.flags = NOTIFY;
		EVENT(&h, vm_resume(h.vm, &reg, h.now));
	}
	ck_assert_str_eq(vm_host_set(&h), "xxxxoo");
	vm_host_done(&h);
}
END_TEST

START_TEST(a_vm_lost_twice)
{
	struct vm_host h;

	vm_host_setup(&h, 2);
	vm_host_start(&h, 2, BOTH);
	EVENT(&h, vm_lost(h.vm, false, h.now));
	ck_assert_uint_eq(h.effects, VM_EFFECT_CHANGED);
	EVENT(&h, vm_lost(h.vm, false, h.now));
	ck_assert_uint_eq(h.effects, 0);
	EVENT(&h, vm_lost(h.vm, true, h.now));
	ck_assert_uint_ne(h.effects & VM_EFFECT_STORE, 0);
	EVENT(&h, vm_lost(h.vm, true, h.now));
	ck_assert_uint_eq(h.effects, 0);
	vm_host_done(&h);
}
END_TEST

/* ---- verdicts ---- */

static void expect(struct vm_host *h, uint32_t vcpu, int32_t psci, enum cpupolicy_reason reason,
		   enum cpupolicy_reason would)
{
	struct vm_verdict v = vm_ask(h->vm, vcpu, h->now);

	ck_assert_msg(v.psci == psci && v.reason == reason && v.would == would, "vCPU %u: %d %d %d", vcpu, v.psci,
		      v.reason, v.would);
	ck_assert_int_eq(h->vm->vcpus[vcpu].reason, reason);
}

#define ALLOWED(h, vcpu)     expect(h, vcpu, CPUPOLICY_PSCI_SUCCESS, CPUPOLICY_REASON_GRANTED, CPUPOLICY_REASON_GRANTED)
#define DENIED(h, vcpu, why) expect(h, vcpu, CPUPOLICY_PSCI_DENIED, CPUPOLICY_REASON_##why, CPUPOLICY_REASON_##why)
#define OBSERVED(h, vcpu, why)                                                                                         \
	expect(h, vcpu, CPUPOLICY_PSCI_SUCCESS, CPUPOLICY_REASON_OBSERVED, CPUPOLICY_REASON_##why)

/* vCPU 0; 1 granted; 2 asked back; 3 granted, not durable; 4 given back; 5 never granted */
static void one_of_each(struct vm_host *h)
{
	vm_host_setup(h, 6);
	vm_host_start(h, 5, BOTH);
	EVENT(h, vm_eject(h->vm, 3, CPUPOLICY_EJECT_GUEST, h->now));
	EVENT(h, vm_eject(h->vm, 4, CPUPOLICY_EJECT_GUEST, h->now));
	vm_host_resize(h, 2);
	vm_host_stored(h);
	/* Not reachable by requests alone: while one is asked back, none is granted. */
	h->vm->vcpus[3].flags = VCPU_ENABLED | VCPU_WANTED;
	h->vm->numbers = plug_count(h->vm);
	ck_assert_str_eq(vm_host_set(h), "xxo+--");
}

START_TEST(ask_rules)
{
	struct vm_host h;

	one_of_each(&h);
	ALLOWED(&h, 0);
	ALLOWED(&h, 1);
	ALLOWED(&h, 2);
	DENIED(&h, 3, NOT_ENABLED);
	DENIED(&h, 4, EJECTED);
	DENIED(&h, 5, NOT_ENABLED);
	ck_assert_uint_eq(h.vm->denied, 3);
	ck_assert_uint_eq(h.vm->vcpus[4].denied, 1);
	ck_assert_uint_eq(h.vm->vcpus[1].denied, 0);

	h.vm->run_state = CPUPOLICY_RUN_PAUSED;
	ALLOWED(&h, 1);
	h.vm->run_state = CPUPOLICY_RUN_INACTIVE;
	DENIED(&h, 0, INACTIVE);
	DENIED(&h, 1, INACTIVE);
	DENIED(&h, 5, INACTIVE);
	h.vm->run_state = CPUPOLICY_RUN_RUNNING;
	h.vm->link = VM_DISCONNECTED;
	DENIED(&h, 1, INACTIVE);
	vm_host_done(&h);
}
END_TEST

START_TEST(ask_rate)
{
	struct vm_host h;

	one_of_each(&h);
	h.level.cpu_on = (struct rate_limit){.per_second = 1, .burst = 2};
	rate_init(&h.vm->cpu_on, &h.level.cpu_on, h.now);
	/* Those that are denied anyway cost nothing, nor does vCPU 0. */
	for (int i = 0; i < 10; i++) {
		DENIED(&h, 5, NOT_ENABLED);
		ALLOWED(&h, 0);
	}
	ALLOWED(&h, 1);
	ALLOWED(&h, 2);
	DENIED(&h, 1, RATE);
	ALLOWED(&h, 0);
	h.now += UINT64_C(1000000000);
	ALLOWED(&h, 1);
	DENIED(&h, 1, RATE);
	vm_host_done(&h);
}
END_TEST

START_TEST(ask_observe)
{
	struct vm_host h;

	one_of_each(&h);
	h.vm->observe = true;
	h.level.cpu_on = (struct rate_limit){.per_second = 1, .burst = 1};
	rate_init(&h.vm->cpu_on, &h.level.cpu_on, h.now);
	ALLOWED(&h, 0);
	ALLOWED(&h, 1);
	OBSERVED(&h, 1, RATE);
	OBSERVED(&h, 3, NOT_ENABLED);
	OBSERVED(&h, 4, EJECTED);
	h.vm->run_state = CPUPOLICY_RUN_INACTIVE;
	OBSERVED(&h, 1, INACTIVE);
	ck_assert_uint_eq(h.vm->denied, 0);
	vm_host_done(&h);
}
END_TEST

START_TEST(counters_saturate)
{
	struct vm_host h;

	one_of_each(&h);
	EVENT(&h, vm_denied(h.vm, 5, CPUPOLICY_REASON_NOT_ENABLED, 7));
	ck_assert_uint_eq(h.vm->vcpus[5].denied, 7);
	ck_assert_uint_eq(h.vm->denied, 7);
	ck_assert_int_eq(h.vm->vcpus[5].reason, CPUPOLICY_REASON_NOT_ENABLED);
	EVENT(&h, vm_denied(h.vm, 5, CPUPOLICY_REASON_NOT_ENABLED, UINT32_MAX));
	ck_assert_uint_eq(h.vm->vcpus[5].denied, UINT32_MAX);
	ck_assert_uint_eq(h.vm->denied, 7 + UINT64_C(0xffffffff));
	DENIED(&h, 5, NOT_ENABLED);
	ck_assert_uint_eq(h.vm->vcpus[5].denied, UINT32_MAX);
	h.vm->denied = UINT64_MAX - 1;
	DENIED(&h, 5, NOT_ENABLED);
	DENIED(&h, 5, NOT_ENABLED);
	ck_assert_uint_eq(h.vm->denied, UINT64_MAX);
	EVENT(&h, vm_lost(h.vm, true, h.now));
	ck_assert_uint_eq(vm_denied(h.vm, 5, CPUPOLICY_REASON_NOT_ENABLED, 1), 0);
	vm_host_done(&h);
}
END_TEST

/* ---- the page ---- */

static struct cpupolicy_page_word word_of(const struct vm_host *h, uint32_t vcpu)
{
	return cpupolicy_page_parse_word(vm_word(h->vm, vcpu));
}

START_TEST(words)
{
	struct cpupolicy_page_word w;
	struct vm_host h;

	one_of_each(&h);
	for (uint32_t i = 0; i < 6; i++) {
		w = word_of(&h, i);
		ck_assert_int_eq(w.enabled, i < 3);
		ck_assert_int_eq(w.wanted, i < 2);
		ck_assert_int_eq(w.verdict, i < 3 ? CPUPOLICY_VERDICT_ALLOW : CPUPOLICY_VERDICT_DENY);
		ck_assert(!w.timeout_allow && !w.observe);
	}
	ck_assert_uint_eq(word_of(&h, 1).grant, 1);
	ck_assert_uint_eq(word_of(&h, 5).grant, 0);
	ck_assert_uint_ne(word_of(&h, 2).serial, word_of(&h, 1).serial);

	h.level.ask = true;
	ck_assert_int_eq(word_of(&h, 1).verdict, CPUPOLICY_VERDICT_ASK);
	ck_assert_int_eq(word_of(&h, 5).verdict, CPUPOLICY_VERDICT_DENY);
	h.level.ask = false;
	h.level.cpu_on = (struct rate_limit){.per_second = 1, .burst = 1};
	h.level.timeout_allow = true;
	ck_assert_int_eq(word_of(&h, 2).verdict, CPUPOLICY_VERDICT_ASK);
	ck_assert(word_of(&h, 2).timeout_allow);
	ck_assert(!word_of(&h, 5).timeout_allow);

	h.vm->observe = true;
	ck_assert(word_of(&h, 1).observe && word_of(&h, 5).observe);
	ck_assert_int_eq(word_of(&h, 5).verdict, CPUPOLICY_VERDICT_ALLOW);
	ck_assert(!word_of(&h, 5).enabled);
	EVENT(&h, vm_lost(h.vm, true, h.now));
	for (uint32_t i = 0; i < 6; i++) {
		ck_assert(!word_of(&h, i).enabled);
		ck_assert_int_eq(word_of(&h, i).verdict, CPUPOLICY_VERDICT_DENY);
	}
	vm_host_done(&h);
}
END_TEST

/* A VMM keeps the number of the grant that was ejected, as the page shows it: it must not be that of the next one. */
START_TEST(a_grants_number_appears_with_it)
{
	struct vm_host h;
	uint32_t grant;

	vm_host_setup(&h, 2);
	vm_host_start(&h, 2, BOTH);
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	vm_host_stored(&h);
	grant = word_of(&h, 1).grant;
	vm_host_resize(&h, 2);
	ck_assert_uint_eq(word_of(&h, 1).grant, grant);
	vm_host_stored(&h);
	ck_assert_uint_eq(word_of(&h, 1).grant, grant + 1);

	h.vm->vcpus[1].grant = UINT32_MAX;
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	vm_host_resize(&h, 2);
	ck_assert_uint_eq(h.vm->vcpus[1].grant, 1); /* 0 says never */
	vm_host_done(&h);
}
END_TEST

START_TEST(confirm)
{
	struct vm_host h;

	vm_host_setup(&h, 2);
	h.confirm = false;
	vm_host_start(&h, 2, BOTH);
	ck_assert_uint_eq(h.vm->generation, 2);
	EVENT(&h, vm_confirm(h.vm, 1, 3)); /* not published yet */
	ck_assert_uint_eq(h.vm->confirmed, 0);
	EVENT(&h, vm_confirm(h.vm, 0, 1)); /* of another session */
	ck_assert_uint_eq(h.vm->confirmed, 0);
	EVENT(&h, vm_confirm(h.vm, 1, 2));
	ck_assert_uint_eq(h.vm->confirmed, 2);
	ck_assert_uint_eq(h.effects, VM_EFFECT_CHANGED);
	EVENT(&h, vm_confirm(h.vm, 1, 1));
	ck_assert_uint_eq(h.vm->confirmed, 2);
	ck_assert_uint_eq(h.effects, 0);
	vm_host_done(&h);
}
END_TEST

/* ---- reset ---- */

START_TEST(reset_resolves_what_is_pending)
{
	struct vm_host h;

	vm_host_setup(&h, 4);
	vm_host_start(&h, 3, BOTH);
	for (uint32_t i = 0; i < 3; i++)
		EVENT(&h, vm_power_on(h.vm, i, CPUPOLICY_REASON_GRANTED, h.now));
	vm_host_resize(&h, 1);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "xoo-");
	EVENT(&h, vm_reset(h.vm, h.now));
	ck_assert_str_eq(vm_host_flags(&h), "EWDOA - - -");
	ck_assert_int_eq(h.vm->last_job.result, JOB_DONE);

	vm_host_resize(&h, 4);
	vm_host_stored(&h);
	EVENT(&h, vm_reset(h.vm, h.now));
	ck_assert_str_eq(vm_host_flags(&h), "EWDOA EWDA EWDA EWDA");
	ck_assert_int_eq(h.vm->last_job.result, JOB_DONE);
	ck_assert(!h.vm->last_job.online);
	vm_host_done(&h);
}
END_TEST

/* The guest that boots has a vCPU that is asked back, if its VMM did not know of that when it was reset. */
START_TEST(reset_before_the_vmm_saw_the_request)
{
	struct vm_host h;
	uint8_t serial;

	vm_host_setup(&h, 2);
	vm_host_start(&h, 2, BOTH);
	h.confirm = false;
	vm_host_resize(&h, 1);
	vm_host_stored(&h);
	serial = word_of(&h, 1).serial;
	EVENT(&h, vm_reset(h.vm, h.now));
	ck_assert_str_eq(vm_host_set(&h), "xo");
	ck_assert_uint_ne(word_of(&h, 1).serial, serial);
	ck_assert_uint_ne(h.effects & VM_EFFECT_PAGE, 0);
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_REQUESTED, h.now));
	ck_assert_int_eq(h.vm->last_job.result, JOB_DONE);
	vm_host_done(&h);
}
END_TEST

/* ---- the guest's own ejects ---- */

START_TEST(a_guest_gives_up_vcpus)
{
	struct vm_host h;

	vm_host_setup(&h, 6);
	h.level.limit = 5;
	vm_host_start(&h, 6, BOTH);
	ck_assert_str_eq(vm_host_set(&h), "xxxxx-");
	/* From the target, not from what was asked for beyond it. */
	EVENT(&h, vm_eject(h.vm, 2, CPUPOLICY_EJECT_GUEST, h.now));
	ck_assert_uint_eq(h.vm->desired, 4);
	ck_assert_str_eq(vm_host_set(&h), "xx-xx-");
	EVENT(&h, vm_eject(h.vm, 4, CPUPOLICY_EJECT_GUEST, h.now));
	EVENT(&h, vm_eject(h.vm, 3, CPUPOLICY_EJECT_GUEST, h.now));
	ck_assert_uint_eq(h.vm->desired, 2);
	ck_assert_str_eq(vm_host_set(&h), "xx----");
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	ck_assert_uint_eq(h.vm->desired, 1);
	ck_assert_str_eq(vm_host_set(&h), "x-----");
	/* But vCPU 0 it cannot give up. */
	EVENT(&h, vm_eject(h.vm, 0, CPUPOLICY_EJECT_GUEST, h.now));
	ck_assert_uint_eq(h.effects, 0);
	vm_host_done(&h);
}
END_TEST

TCase *vm_life_case(void)
{
	TCase *t = tcase_create("life");

	tcase_add_test(t, sizes);
	tcase_add_test(t, target);
	tcase_add_test(t, start);
	tcase_add_test(t, start_within_the_level);
	tcase_add_test(t, an_operators_count_outlives_the_vm);
	tcase_add_test(t, start_under_a_request);
	tcase_add_test(t, a_start_that_cannot_be_stored);
	tcase_add_test(t, resume_takes_over_what_the_guest_did);
	tcase_add_test(t, resume_after_a_grant_that_the_vmm_never_saw);
	tcase_add_test(t, what_a_new_session_shows_first);
	tcase_add_test(t, a_report_from_before_the_grant);
	tcase_add_test(t, resume_under_another_level);
	tcase_add_test(t, a_vm_lost_twice);
	tcase_add_test(t, ask_rules);
	tcase_add_test(t, ask_rate);
	tcase_add_test(t, ask_observe);
	tcase_add_test(t, counters_saturate);
	tcase_add_test(t, words);
	tcase_add_test(t, a_grants_number_appears_with_it);
	tcase_add_test(t, confirm);
	tcase_add_test(t, reset_resolves_what_is_pending);
	tcase_add_test(t, reset_before_the_vmm_saw_the_request);
	tcase_add_test(t, a_guest_gives_up_vcpus);
	return t;
}
