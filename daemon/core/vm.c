/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/plug.h"

/* _OST (ACPI 6.5, 6.3.5) as Linux's include/linux/acpi.h names them. */
#define OST_DEVICE_CHECK        1u
#define OST_EJECT_REQUEST       3u
#define OST_SUCCESS             0u
#define OST_INSERT_IN_PROGRESS  0x80u
#define OST_EJECT_NOT_SUPPORTED 0x80u
#define OST_EJECT_IN_PROGRESS   0x84u

/* ---- life ---- */

int vm_new(struct vm **ret, uint32_t possible, const struct service_class *class)
{
	struct vm *vm;

	if (possible < 1 || possible > CPUPOLICY_MAX_VCPUS)
		return -EINVAL;
	vm = calloc(1, sizeof(*vm) + possible * sizeof(vm->vcpus[0]));
	if (!vm)
		return -ENOMEM;
	vm->class = class;
	vm->observe = class->observe;
	vm->possible = possible;
	vm->allowance = UINT32_MAX;
	vm->reclaim_at = UINT64_MAX;
	vm->quota = VM_QUOTA_NONE;
	vm->link = VM_STOPPED;
	vm->run_state = CPUPOLICY_RUN_RUNNING;
	rate_init(&vm->cpu_on, &class->cpu_on, 0);
	plug_rate_init(vm, 0);
	*ret = vm;
	return 0;
}

struct vm *vm_free(struct vm *vm)
{
	free(vm);
	return NULL;
}

static void enable_first(struct vm *vm)
{
	vm->vcpus[0].flags |= VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE | VCPU_ACKED;
}

static void open_session(struct vm *vm, const struct vm_registration *reg)
{
	vm->link = VM_CONNECTED;
	vm->run_state = reg->run_state;
	vm->notify = reg->flags & CPUPOLICY_REG_NOTIFY;
	vm->boot_removable = reg->flags & CPUPOLICY_REG_BOOT_REMOVABLE;
	vm->realm = reg->flags & CPUPOLICY_REG_REALM;
	vm->means = cpupolicy_means(reg->flags);
	vm->epoch++;
	vm->generation = 0;
	vm->confirmed = 0;
}

unsigned vm_start(struct vm *vm, const struct vm_registration *reg, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	open_session(vm, reg);
	if (!vm->desired_set)
		vm->desired = reg->boot;
	if (vm->undo_count > 0 && !vm->undo[0].desired_set)
		vm->undo[0].desired = reg->boot;
	vm->boot = vm_target(vm);
	vm->denied = 0;
	vm->reclaim_at = UINT64_MAX;
	vm->rate_waits = false;
	rate_init(&vm->cpu_on, &vm->class->cpu_on, now);
	plug_rate_init(vm, now);
	for (uint32_t i = 0; i < vm->possible; i++) {
		vm->vcpus[i] = (struct vcpu){.mpidr = reg->vcpus[i].mpidr};
		plug_set_online(&p, i, reg->vcpus[i].flags & CPUPOLICY_VCPU_ONLINE);
		if (i < vm->boot) {
			plug_grant(&p, i);
			/* The guest finds it when it boots: there is nothing to notify. */
			vm->vcpus[i].flags |= VCPU_ACKED;
		}
	}
	enable_first(vm);
	plug_touch(&p);
	p.effects |= VM_EFFECT_PAGE;
	return plug_end(&p);
}

static uint32_t one_less(uint32_t desired)
{
	return desired > 1 ? desired - 1 : 1;
}

/* CPU time that takes another number of vCPUs than are desired was asked for by nobody. */
static uint32_t millis_of(uint32_t millis, uint32_t desired)
{
	return vm_millis_count(millis) == desired ? millis : 0;
}

/* The guest gave back a vCPU that nobody asked for: from now on it wants one less. */
static void give_up(struct plug *p, uint32_t vcpu)
{
	struct vm *vm = p->vm;
	bool awaited = vm->vcpus[vcpu].flags & VCPU_IN_JOB;

	vm->desired = one_less(vm_target(vm));
	vm->millis = millis_of(vm->millis, vm->desired);
	for (uint32_t i = 0; i < vm->undo_count; i++) {
		struct vm_undo *undo = &vm->undo[i];

		undo->desired = one_less(undo->desired);
		undo->millis = millis_of(undo->millis, undo->desired);
	}
	plug_drop(p, vcpu);
	if (awaited)
		plug_set_answer(p, vcpu, VCPU_ANSWER_REFUSED);
}

/* `absence`: the report tells of a time in which the VMM could not tell us what the guest did. In a session the guest's
 * own ejects have messages of their own, and a mark without one is from a snapshot that was loaded. */
static void take_report(struct plug *p, const struct cpupolicy_vcpu *vcpus, uint32_t confirmed, bool absence)
{
	struct vm *vm = p->vm;

	for (uint32_t i = 0; i < vm->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];
		uint32_t flags = vcpus[i].flags;
		bool current;

		plug_set_online(p, i, flags & CPUPOLICY_VCPU_ONLINE);
		if (i == 0 || !plug_is_granted(v))
			continue;
		/* Ejected may have been an older grant, which is all that the VMM knew of when it wrote this. */
		current = confirmed >= v->since;
		if (!(flags & CPUPOLICY_VCPU_EJECTED))
			plug_set_acked(p, i, flags & CPUPOLICY_VCPU_ACKED);
		else if (current && !plug_is_wanted(v))
			plug_drop(p, i);
		else if (current && absence && (flags & CPUPOLICY_VCPU_EJECT_OWN))
			give_up(p, i);
		else
			plug_renew(p, i);
	}
}

unsigned vm_resume(struct vm *vm, const struct vm_registration *reg, uint64_t now)
{
	struct plug p = plug_begin(vm, now);
	uint32_t confirmed = vm->confirmed;

	open_session(vm, reg);
	for (uint32_t i = 0; i < vm->possible; i++)
		vm->vcpus[i].mpidr = reg->vcpus[i].mpidr;
	take_report(&p, reg->vcpus, confirmed, true);
	for (uint32_t i = 0; i < vm->possible; i++)
		vm->vcpus[i].since = 0; /* the first page of the session shows them all */
	plug_converge(&p, true);
	plug_touch(&p);
	p.effects |= VM_EFFECT_PAGE;
	return plug_end(&p);
}

unsigned vm_lost(struct vm *vm, bool gone, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	if (vm->link == VM_STOPPED || (vm->link == VM_DISCONNECTED && !gone))
		return 0;
	p.effects |= VM_EFFECT_CHANGED;
	vm->link = gone ? VM_STOPPED : VM_DISCONNECTED;
	if (gone) {
		vm->rate_waits = false;
		for (uint32_t i = 0; i < vm->possible; i++) {
			vm->vcpus[i].flags = 0;
			vm->vcpus[i].answer = VCPU_ANSWER_NONE;
		}
		p.effects |= VM_EFFECT_PAGE;
		plug_touch(&p);
	}
	return plug_end(&p);
}

/* ---- what the guest and the VMM do ---- */

static uint32_t add_count(uint32_t a, uint32_t b)
{
	return b < UINT32_MAX - a ? a + b : UINT32_MAX;
}

static void count_denied(struct vm *vm, uint32_t vcpu, enum cpupolicy_reason reason, uint32_t count)
{
	struct vcpu *v = &vm->vcpus[vcpu];

	v->denied = add_count(v->denied, count);
	v->reason = (uint8_t)reason;
	vm->denied = count < UINT64_MAX - vm->denied ? vm->denied + count : UINT64_MAX;
}

/* The rules, in their order. */
static enum cpupolicy_reason decide(struct vm *vm, uint32_t vcpu, uint64_t now)
{
	const struct vcpu *v = &vm->vcpus[vcpu];

	if (vm->link != VM_CONNECTED || vm->run_state == CPUPOLICY_RUN_INACTIVE)
		return CPUPOLICY_REASON_INACTIVE;
	if (vcpu == 0)
		return CPUPOLICY_REASON_GRANTED;
	if (!plug_is_granted(v))
		return (v->flags & VCPU_ENABLED) || v->grant == 0 ? CPUPOLICY_REASON_NOT_ENABLED
								  : CPUPOLICY_REASON_EJECTED;
	if (plug_is_revoked(vm, v))
		return CPUPOLICY_REASON_NOT_ENABLED;
	if (!rate_take(&vm->cpu_on, &vm->class->cpu_on, now))
		return CPUPOLICY_REASON_RATE;
	return CPUPOLICY_REASON_GRANTED;
}

struct vm_verdict vm_ask(struct vm *vm, uint32_t vcpu, uint64_t now)
{
	enum cpupolicy_reason why = decide(vm, vcpu, now);
	struct vm_verdict verdict = {.psci = CPUPOLICY_PSCI_SUCCESS, .reason = why, .would = why};

	if (why == CPUPOLICY_REASON_GRANTED) {
		vm->vcpus[vcpu].reason = (uint8_t)why;
	} else if (vm->observe) {
		verdict.reason = CPUPOLICY_REASON_OBSERVED;
		vm->vcpus[vcpu].reason = CPUPOLICY_REASON_OBSERVED;
	} else {
		verdict.psci = CPUPOLICY_PSCI_DENIED;
		count_denied(vm, vcpu, why, 1);
	}
	return verdict;
}

unsigned vm_power_on(struct vm *vm, uint32_t vcpu, enum cpupolicy_reason reason, uint64_t now)
{
	struct plug p = plug_begin(vm, now);
	struct vcpu *v = &vm->vcpus[vcpu];

	if (vm->link == VM_STOPPED)
		return 0;
	if (v->reason != reason)
		p.effects |= VM_EFFECT_CHANGED;
	v->reason = (uint8_t)reason;
	plug_set_online(&p, vcpu, true);
	/* Who powers it on has seen it, whatever else it said. */
	if (plug_is_granted(v)) {
		plug_set_acked(&p, vcpu, true);
		if (plug_is_wanted(v))
			plug_set_answer(&p, vcpu, VCPU_ANSWER_NONE);
	}
	return plug_end(&p);
}

unsigned vm_power_off(struct vm *vm, uint32_t vcpu, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	plug_set_online(&p, vcpu, false);
	return plug_end(&p);
}

unsigned vm_denied(struct vm *vm, uint32_t vcpu, enum cpupolicy_reason reason, uint32_t count)
{
	if (vm->link == VM_STOPPED)
		return 0;
	count_denied(vm, vcpu, reason, count);
	return VM_EFFECT_CHANGED;
}

static enum vcpu_answer insert_answer(const struct vcpu *v, uint32_t status)
{
	if (v->flags & (VCPU_ACKED | VCPU_ONLINE))
		return VCPU_ANSWER_NONE;
	return status == OST_INSERT_IN_PROGRESS ? VCPU_ANSWER_PROGRESS : VCPU_ANSWER_REFUSED;
}

static enum vcpu_answer eject_answer(uint32_t status)
{
	switch (status) {
	case OST_EJECT_IN_PROGRESS:
		return VCPU_ANSWER_PROGRESS;
	case OST_EJECT_NOT_SUPPORTED:
		return VCPU_ANSWER_FORBIDDEN;
	default:
		return VCPU_ANSWER_REFUSED;
	}
}

unsigned vm_ost(struct vm *vm, uint32_t vcpu, uint32_t event, uint32_t status, uint64_t now)
{
	struct plug p = plug_begin(vm, now);
	const struct vcpu *v = &vm->vcpus[vcpu];

	/* The guest may say anything at any time: only what answers the request that is current counts. */
	if (vcpu == 0 || !plug_is_granted(v))
		return 0;
	if (event == OST_DEVICE_CHECK) {
		if (status == OST_SUCCESS)
			plug_set_acked(&p, vcpu, true);
		if (plug_is_wanted(v))
			plug_set_answer(&p, vcpu, insert_answer(v, status));
	} else if (event == OST_EJECT_REQUEST && !plug_is_wanted(v) && status != OST_SUCCESS) {
		/* Success needs no note: the eject itself, which came before it, is the proof. */
		plug_set_answer(&p, vcpu, eject_answer(status));
		if (v->answer == VCPU_ANSWER_REFUSED || v->answer == VCPU_ANSWER_FORBIDDEN)
			plug_set_overdue(&p, vcpu);
	}
	return plug_end(&p);
}

unsigned vm_eject(struct vm *vm, uint32_t vcpu, enum cpupolicy_eject_cause cause, uint64_t now)
{
	struct plug p = plug_begin(vm, now);
	struct vcpu *v = &vm->vcpus[vcpu];

	if (vcpu == 0)
		return 0;
	plug_set_online(&p, vcpu, false);
	if (plug_is_granted(v)) {
		if (!plug_is_wanted(v)) {
			plug_drop(&p, vcpu);
		} else if (cause == CPUPOLICY_EJECT_GUEST) {
			give_up(&p, vcpu);
		} else {
			/* It was asked for, but not any more. Another one may take its place, also in the job. */
			plug_drop(&p, vcpu);
			v->flags &= (uint8_t)~VCPU_IN_JOB;
		}
		plug_converge(&p, true);
	}
	return plug_end(&p);
}

unsigned vm_run_state(struct vm *vm, enum cpupolicy_run_state state, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	if (vm->link != VM_CONNECTED || state == vm->run_state)
		return 0;
	vm->run_state = state;
	p.effects |= VM_EFFECT_CHANGED;
	return plug_end(&p);
}

unsigned vm_reset(struct vm *vm, uint64_t now)
{
	struct plug p = plug_begin(vm, now);
	bool current = vm->confirmed == vm->generation;

	if (vm->link == VM_STOPPED)
		return 0;
	for (uint32_t i = 0; i < vm->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];

		plug_set_online(&p, i, i == 0);
		if (i == 0 || !plug_is_granted(v))
			continue;
		if (plug_is_wanted(v)) {
			plug_set_answer(&p, i, VCPU_ANSWER_NONE);
			plug_set_acked(&p, i, true); /* found at boot */
		} else if (current) {
			plug_drop(&p, i);
		} else {
			/* The VMM may not have known of the request, then the guest that boots has it: ask anew. */
			plug_remind(&p, i);
		}
	}
	plug_converge(&p, true);
	return plug_end(&p);
}

unsigned vm_state(struct vm *vm, enum cpupolicy_run_state state, const struct cpupolicy_vcpu *vcpus, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	if (vm->link != VM_CONNECTED)
		return 0;
	if (vm->run_state != state)
		p.effects |= VM_EFFECT_CHANGED;
	vm->run_state = state;
	take_report(&p, vcpus, vm->confirmed, false);
	plug_converge(&p, true);
	return plug_end(&p);
}

unsigned vm_confirm(struct vm *vm, uint32_t epoch, uint32_t generation)
{
	if (vm->link != VM_CONNECTED || epoch != vm->epoch || generation <= vm->confirmed ||
	    generation > vm->generation)
		return 0;
	vm->confirmed = generation;
	return VM_EFFECT_CHANGED;
}

/* ---- resize ---- */

static enum vm_refusal resize_refusal(const struct vm *vm, uint32_t count)
{
	uint32_t wanted = plug_count_wanted(vm);

	if (count < 1 || count > vm->possible)
		return VM_REFUSED_RANGE;
	if (count > vm->class->limit)
		return VM_REFUSED_LIMIT;
	if (vm->undo_count == VM_UNDO_MAX)
		return VM_REFUSED_STORAGE;
	if (vm->link == VM_STOPPED)
		return VM_ACCEPTED;
	if (vm->link == VM_CONNECTED && vm->run_state == CPUPOLICY_RUN_INACTIVE)
		return VM_REFUSED_MIGRATING;
	if (!vm->notify && count != wanted)
		return VM_REFUSED_NOTIFY;
	/* A guest that gave up boot vCPUs by itself may be told to stay so. */
	if (!vm->boot_removable && count < vm->boot && count < wanted)
		return VM_REFUSED_BOOT;
	return VM_ACCEPTED;
}

static void set_desired(struct vm *vm, uint32_t count, uint32_t millis)
{
	vm->undo[vm->undo_count++] = (struct vm_undo){
		.revision = vm->revision + 1,
		.desired = vm->desired,
		.millis = vm->millis,
		.desired_set = vm->desired_set,
	};
	vm->desired = count;
	vm->millis = millis;
	vm->desired_set = true;
}

/* The request concerns every vCPU that is not as asked, those of earlier requests included: the guest is asked again. */
static void remind_pending(struct plug *p)
{
	for (uint32_t i = 1; i < p->vm->possible; i++) {
		const struct vcpu *v = &p->vm->vcpus[i];

		if (!(v->flags & VCPU_ENABLED) || (v->flags & VCPU_IN_JOB))
			continue;
		if (!plug_is_wanted(v) || !(v->flags & (VCPU_ACKED | VCPU_ONLINE)))
			plug_remind(p, i);
	}
}

static enum vm_refusal resize(struct vm *vm, uint32_t count, uint32_t millis, uint64_t id, uint64_t now,
			      struct job *ret_superseded, unsigned *ret_effects)
{
	struct plug p = plug_begin(vm, now);
	enum vm_refusal refusal = resize_refusal(vm, count);
	struct job superseded = {0};
	uint32_t from;

	if (refusal != VM_ACCEPTED)
		return refusal;
	if (vm->job.id != 0) {
		plug_end_job(&p, JOB_SUPERSEDED);
		superseded = vm->last_job;
	}
	from = vm->link == VM_STOPPED ? vm_target(vm) : plug_count_enabled(vm);
	set_desired(vm, count, millis);
	/* The guest's time begins when it is shown what is asked of it. */
	job_start(&vm->job, id, from, count, vm->class->job_timeout, true, now);
	vm->job_revision = vm->revision + 1;
	if (vm->link != VM_STOPPED) {
		plug_converge(&p, true);
		remind_pending(&p);
	}
	plug_touch(&p);
	*ret_superseded = superseded;
	*ret_effects = plug_end(&p);
	return VM_ACCEPTED;
}

enum vm_refusal vm_resize(struct vm *vm, uint32_t count, uint64_t id, uint64_t now, struct job *ret_superseded,
			  unsigned *ret_effects)
{
	return resize(vm, count, 0, id, now, ret_superseded, ret_effects);
}

enum vm_refusal vm_resize_millis(struct vm *vm, uint32_t millis, uint64_t id, uint64_t now, struct job *ret_superseded,
				 unsigned *ret_effects)
{
	return resize(vm, vm_millis_count(millis), millis, id, now, ret_superseded, ret_effects);
}

/* ---- durability ---- */

static bool bit(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

static void on_durable(struct plug *p, uint64_t revision, const uint8_t *granted)
{
	struct vm *vm = p->vm;
	uint32_t done = 0;

	vm->stored = revision;
	while (done < vm->undo_count && vm->undo[done].revision <= revision)
		done++;
	vm->undo_count -= done;
	memmove(vm->undo, vm->undo + done, vm->undo_count * sizeof(vm->undo[0]));
	for (uint32_t i = 0; i < vm->possible; i++) {
		struct vcpu *v = &vm->vcpus[i];

		/* A bit of an older grant says nothing of this one: what withdrew that may be on its way to the disk. */
		if ((v->flags & (VCPU_ENABLED | VCPU_DURABLE)) != VCPU_ENABLED || v->granted_at > revision ||
		    !bit(granted, i))
			continue;
		v->flags |= VCPU_DURABLE;
		v->since = vm->generation + 1;
		p->effects |= VM_EFFECT_PAGE | VM_EFFECT_CHANGED;
	}
	/* What a failed write took back and should not have, comes again now that writes succeed. */
	if (vm->link != VM_STOPPED)
		plug_converge(p, true);
}

static void undo(struct vm *vm, uint64_t revision)
{
	struct vm_undo first = vm->undo[0];
	uint32_t failed = 0;

	while (failed < vm->undo_count && vm->undo[failed].revision <= revision)
		failed++;
	if (failed == 0)
		return;
	vm->undo_count -= failed;
	memmove(vm->undo, vm->undo + failed, vm->undo_count * sizeof(vm->undo[0]));
	if (vm->undo_count > 0) {
		/* A later request is on its way still; should it fail as well, then back to before both. */
		vm->undo[0].desired = first.desired;
		vm->undo[0].millis = first.millis;
		vm->undo[0].desired_set = first.desired_set;
	} else {
		vm->desired = first.desired;
		vm->millis = first.millis;
		vm->desired_set = first.desired_set;
	}
}

static void on_failed(struct plug *p, uint64_t revision)
{
	struct vm *vm = p->vm;

	if (vm->job.id != 0 && vm->job_revision > vm->stored && vm->job_revision <= revision)
		plug_end_job(p, JOB_STORAGE);
	undo(vm, revision);
	for (uint32_t i = 0; i < vm->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];

		if ((v->flags & (VCPU_ENABLED | VCPU_DURABLE)) == VCPU_ENABLED && v->granted_at <= revision)
			plug_drop(p, i);
	}
	/* Nothing is granted until a write succeeds: it would fail the same way, and for ever. */
	if (vm->link != VM_STOPPED)
		plug_converge(p, false);
	plug_touch(p);
}

unsigned vm_stored(struct vm *vm, uint64_t revision, bool ok, const uint8_t *granted, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	/* An answer that came late: a newer record has made up for it. */
	if (revision <= vm->stored || revision > vm->revision)
		return 0;
	if (ok)
		on_durable(&p, revision, granted);
	else
		on_failed(&p, revision);
	return plug_end(&p);
}

void vm_record_grants(const struct vm *vm, uint8_t *enabled, uint8_t *wanted)
{
	memset(enabled, 0, (vm->possible + 7) / 8);
	memset(wanted, 0, (vm->possible + 7) / 8);
	for (uint32_t i = 0; i < vm->possible; i++) {
		uint8_t mask = (uint8_t)(1u << i % 8);

		if (vm->vcpus[i].flags & VCPU_ENABLED)
			enabled[i / 8] |= mask;
		if (plug_is_wanted(&vm->vcpus[i]))
			wanted[i / 8] |= mask;
	}
}

void vm_restore_grants(struct vm *vm, const uint8_t *enabled, const uint8_t *wanted)
{
	bool growth = vm->job.to > vm->job.from;

	vm->link = VM_DISCONNECTED;
	vm->run_state = CPUPOLICY_RUN_RUNNING;
	vm->job_restored = vm->job.id != 0;
	for (uint32_t i = 0; i < vm->possible; i++) {
		struct vcpu *v = &vm->vcpus[i];

		v->flags = 0;
		if (!bit(enabled, i))
			continue;
		v->grant = 1;
		v->flags = VCPU_ENABLED | VCPU_DURABLE | (bit(wanted, i) ? VCPU_WANTED : 0);
		/* The VMM will tell which of these the guest has answered. */
		if (vm->job_restored && i > 0 && (growth || !bit(wanted, i)))
			v->flags |= VCPU_IN_JOB;
		else if (!bit(wanted, i)) /* for how long, nobody knows any more: rather too soon than never */
			v->flags |= VCPU_OVERDUE;
	}
	enable_first(vm);
	vm->numbers = plug_count(vm);
	vm->quota = plug_quota(vm);
}

/* ---- views ---- */

uint64_t vm_word(const struct vm *vm, uint32_t vcpu)
{
	const struct service_class *class = vm->class;
	const struct vcpu *v = &vm->vcpus[vcpu];
	enum cpupolicy_page_verdict verdict;
	/* A VMM that marks a vCPU as ejected keeps the number that it sees: the next one appears with the grant itself. */
	uint32_t grant = v->grant - ((v->flags & (VCPU_ENABLED | VCPU_DURABLE)) == VCPU_ENABLED);
	uint64_t word = (uint64_t)grant << CPUPOLICY_WORD_GRANT_SHIFT | (uint64_t)v->serial
										<< CPUPOLICY_WORD_SERIAL_SHIFT;

	if (plug_is_granted(v) && plug_is_revoked(vm, v)) {
		/* Still the guest's to eject, and nothing else. */
		word |= CPUPOLICY_WORD_ENABLED;
		verdict = CPUPOLICY_VERDICT_DENY;
	} else if (plug_is_granted(v)) {
		word |= CPUPOLICY_WORD_ENABLED | (v->flags & VCPU_WANTED ? CPUPOLICY_WORD_WANTED : 0);
		verdict = class->ask || class->cpu_on.per_second > 0 ? CPUPOLICY_VERDICT_ASK : CPUPOLICY_VERDICT_ALLOW;
		if (class->timeout_allow)
			word |= CPUPOLICY_WORD_TIMEOUT_ALLOW;
	} else {
		verdict = vm->observe && vm->link != VM_STOPPED ? CPUPOLICY_VERDICT_ALLOW : CPUPOLICY_VERDICT_DENY;
	}
	if (vm->observe)
		word |= CPUPOLICY_WORD_OBSERVE;
	return word | (uint64_t)verdict << CPUPOLICY_WORD_VERDICT_SHIFT;
}

void vm_counts(const struct vm *vm, struct vm_counts *ret)
{
	struct vm_counts n = {0};

	for (uint32_t i = 0; i < vm->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];
		bool granted = plug_is_granted(v), online = v->flags & VCPU_ONLINE;

		n.enabled += granted;
		n.wanted += granted && plug_is_wanted(v);
		n.online += online;
		n.acked += granted && (v->flags & (VCPU_ACKED | VCPU_ONLINE));
		n.overdue += granted ? (v->flags & (VCPU_OVERDUE | VCPU_IN_JOB)) == VCPU_OVERDUE : online;
	}
	*ret = n;
}
