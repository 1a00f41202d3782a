/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/fleet_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/plug.h"
#include "daemon/core/vm_handover.h"
#include "daemon/base/util.h"

#define MS     UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

/* ---- the disk ---- */

static void write_record(struct fleet_world *w, struct fleet_world_vm *x)
{
	const struct vm *vm = x->member.core;
	struct fleet_record *r = &x->write;

	*r = (struct fleet_record){
		.present = true,
		.stopped = vm->link == VM_STOPPED,
		.boot = vm->boot,
		.desired = vm->desired,
		.millis = vm->millis,
		.epoch = vm->epoch,
		.desired_set = vm->desired_set,
		.boot_removable = vm->boot_removable,
		.notify = vm->notify,
		.job = vm->job,
		.last_job = vm->last_job,
		.class = x->class,
		.tenant = x->tenant,
	};
	vm_record_grants(vm, r->enabled, r->wanted);
	fleet_save(&w->f, &x->member, w->now, &r->saved);
	fleet_world_count(w, x);
	r->count = x->count;
	x->writing = true;
	x->revision = vm->revision;
}

/* ---- after an event ---- */

static void on_effects(struct fleet_world *w, struct fleet_world_vm *x, unsigned effects)
{
	struct vm *vm = x->member.core;

	/* When a row is ended depends on who looks; fleet_world_check_count() sees to what is in them. */
	if (effects & ~(unsigned)FLEET_EFFECT_ROW)
		fleet_world_hash(w, effects & ~(unsigned)FLEET_EFFECT_ROW);
	if (effects & VM_EFFECT_PAGE) {
		vm->generation++;
		if (fleet_world_chance(w, 8) > 0)
			vm_confirm(vm, vm->epoch, vm->generation);
	}
	if (effects & VM_EFFECT_QUOTA)
		x->quota = vm_quota(vm);
	if ((effects & VM_EFFECT_STORE) && !x->writing)
		write_record(w, x);
}

/* In the order of the VMs: that of the queue depends on who looked at the meters last. True: there were some. */
static bool take_effects(struct fleet_world *w)
{
	unsigned taken[FLEET_WORLD_VMS] = {0}, effects;
	struct fleet_vm *m;
	bool any = false;

	while ((m = fleet_next(&w->f, &effects)))
		taken[fleet_world_of(m) - w->vms] |= effects;
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		struct fleet_world_vm *x = &w->vms[i];

		if (taken[i] == 0)
			continue;
		any = true;
		fleet_world_count(w, x);
		fleet_world_recount(x);
		on_effects(w, x, taken[i]);
		if (x->member.bound != RULE_NONE)
			w->bound[x->member.bound]++;
	}
	return any;
}

/* Takes all effects, and checks. */
static void after(struct fleet_world *w, struct fleet_world_vm *own)
{
	if (own && own->member.core) {
		fleet_world_count(w, own);
		fleet_world_recount(own);
	}
	while (take_effects(w))
		;
	w->events++;
	fleet_world_check(w);
}

static struct fleet_answer apply(struct fleet_world *w, struct fleet_event e)
{
	struct fleet_answer answer;

	e.now = w->now;
	answer = fleet_apply(&w->f, &e);
	w->kinds[e.kind]++;
	w->refused[answer.rule]++;
	fleet_world_hash(w, (uint64_t)e.kind << 8 | (unsigned)answer.rule);
	after(w, e.vm ? fleet_world_of(e.vm) : NULL);
	return answer;
}

#define APPLY(w, x, ...) apply(w, (struct fleet_event){.vm = &(x)->member, __VA_ARGS__})

/* ---- registration ---- */

static void report(const struct fleet_world_vm *x, struct cpupolicy_vcpu *vcpus)
{
	for (uint32_t i = 0; i < x->possible; i++) {
		uint8_t flags = x->member.core->vcpus[i].flags;

		vcpus[i] = (struct cpupolicy_vcpu){
			.mpidr = i,
			.flags = (flags & VCPU_ONLINE ? CPUPOLICY_VCPU_ONLINE : 0) |
				 (flags & VCPU_ACKED ? CPUPOLICY_VCPU_ACKED : 0),
		};
	}
}

static struct vm_registration registration(struct fleet_world *w, const struct fleet_world_vm *x,
					   struct cpupolicy_vcpu *vcpus)
{
	report(x, vcpus);
	return (struct vm_registration){
		.flags = CPUPOLICY_REG_NOTIFY | (fleet_world_chance(w, 8) > 0 ? CPUPOLICY_REG_BOOT_REMOVABLE : 0),
		.boot = 1 + (uint32_t)fleet_world_chance(w, x->possible),
		.run_state = CPUPOLICY_RUN_RUNNING,
		.vcpus = vcpus,
	};
}

static struct fleet_assignment assignment(struct fleet_world *w, const struct fleet_world_vm *x)
{
	return (struct fleet_assignment){&w->classes[w->policy][x->class], x->tenant};
}

static void choose_assignment(struct fleet_world *w, struct fleet_world_vm *x)
{
	x->class = (uint32_t)fleet_world_chance(w, FLEET_WORLD_CLASSES);
	x->tenant =
		fleet_world_chance(w, 4) == 0 ? FLEET_NO_TENANT : (uint32_t)fleet_world_chance(w, FLEET_WORLD_TENANTS);
}

static void add(struct fleet_world *w, struct fleet_world_vm *x)
{
	struct fleet_assignment a = assignment(w, x);
	unsigned i = (unsigned)(x - w->vms);

	x->member = (struct fleet_vm){.name = x->name};
	x->member.uuid[0] = (uint8_t)(i * 37 + 1);
	x->member.uuid[1] = (uint8_t)i;
	if (vm_new(&x->member.core, x->possible, a.class) < 0 || fleet_add(&w->f, &x->member, &a, w->now) < 0)
		abort();
	x->writing = false;
	x->held = 0;
	x->quota = VM_QUOTA_NONE;
}

static void removed(struct fleet_world *w, struct fleet_world_vm *x)
{
	if (x->member.core->link != VM_STOPPED)
		APPLY(w, x, .kind = FLEET_LOST, .gone = true);
	fleet_world_check_count(w, x);
	fleet_remove(&w->f, &x->member, w->now);
	if (x->count.closed_guaranteed != x->count.guaranteed_ns || x->count.closed_burst != x->count.burst_ns)
		fleet_world_wrong(w, x, "the rows do not sum up to the usage", x->count.closed_burst,
				  x->count.burst_ns);
	x->member.core = vm_free(x->member.core);
	x->disk.present = false;
	x->writing = false;
	after(w, NULL);
}

static void start(struct fleet_world *w, struct fleet_world_vm *x)
{
	struct cpupolicy_vcpu vcpus[FLEET_WORLD_VCPUS];
	struct vm_registration reg;
	struct fleet_answer answer;

	if (!x->member.core) {
		choose_assignment(w, x);
		add(w, x);
		x->count = (struct count){.since = w->now};
		if (x->member.class->burst.metered)
			x->count.balance = x->member.class->burst.initial;
	}
	x->guest = (enum guest)fleet_world_chance(w, 3);
	reg = registration(w, x, vcpus);
	for (uint32_t i = 0; i < x->possible; i++)
		vcpus[i].flags = i == 0 ? CPUPOLICY_VCPU_ONLINE : 0;
	answer = APPLY(w, x, .kind = FLEET_START, .registration = &reg);
	if (answer.rule != RULE_NONE && x->member.core->link != VM_STOPPED)
		fleet_world_wrong(w, x, "refused, and started", 0, 0);
	if (answer.rule != RULE_NONE && !x->disk.present)
		removed(w, x);
}

static void resume(struct fleet_world *w, struct fleet_world_vm *x)
{
	struct cpupolicy_vcpu vcpus[FLEET_WORLD_VCPUS];
	struct vm_registration reg = registration(w, x, vcpus);

	reg.flags = CPUPOLICY_REG_NOTIFY | (x->member.core->boot_removable ? CPUPOLICY_REG_BOOT_REMOVABLE : 0);
	APPLY(w, x, .kind = FLEET_RESUME, .registration = &reg);
	if (x->member.core->link != VM_CONNECTED)
		fleet_world_wrong(w, x, "who reconnects was refused", 0, 0);
}

/* ---- the guest ---- */

static void power_on(struct fleet_world *w, struct fleet_world_vm *x, uint32_t vcpu)
{
	bool enabled = vm_word(x->member.core, vcpu) & CPUPOLICY_WORD_ENABLED;
	bool revoked = plug_is_revoked(x->member.core, &x->member.core->vcpus[vcpu]);
	struct fleet_answer answer = APPLY(w, x, .kind = FLEET_ASK, .vcpu = vcpu);

	if (answer.verdict.psci == CPUPOLICY_PSCI_SUCCESS && !enabled && vcpu > 0 && !x->member.core->observe)
		fleet_world_wrong(w, x, "a vCPU was admitted that is not granted", vcpu, 0);
	if (answer.verdict.psci == CPUPOLICY_PSCI_SUCCESS && revoked)
		fleet_world_wrong(w, x, "a vCPU was admitted that is revoked", vcpu, 0);
	w->revoked += revoked;
	if (answer.verdict.psci == CPUPOLICY_PSCI_SUCCESS)
		APPLY(w, x, .kind = FLEET_POWER_ON, .vcpu = vcpu, .reason = answer.verdict.reason);
}

static void asked_back(struct fleet_world *w, struct fleet_world_vm *x, uint32_t vcpu)
{
	if (x->guest == GUEST_REFUSES && fleet_world_chance(w, 16) > 0) {
		if (fleet_world_chance(w, 2)) {
			power_on(w, x, vcpu);
			return;
		}
		APPLY(w, x, .kind = FLEET_OST, .vcpu = vcpu, .ost_event = 3,
		      .ost_status = fleet_world_chance(w, 2) ? 0x82 : 0x80);
		return;
	}
	if (x->guest == GUEST_SLOW && fleet_world_chance(w, 8) > 0)
		return;
	APPLY(w, x, .kind = FLEET_EJECT, .vcpu = vcpu, .cause = CPUPOLICY_EJECT_REQUESTED);
}

static void guest_acts(struct fleet_world *w, struct fleet_world_vm *x)
{
	uint32_t vcpu = (uint32_t)fleet_world_chance(w, x->possible);
	const struct vcpu *v = &x->member.core->vcpus[vcpu];

	if (v->flags & VCPU_ONLINE && fleet_world_chance(w, 6) == 0)
		APPLY(w, x, .kind = FLEET_POWER_OFF, .vcpu = vcpu);
	else if (plug_is_granted(v) && !plug_is_wanted(v))
		asked_back(w, x, vcpu);
	else if (plug_is_granted(v) && !(v->flags & VCPU_ACKED) && fleet_world_chance(w, 4) > 0)
		APPLY(w, x, .kind = FLEET_OST, .vcpu = vcpu, .ost_event = 1,
		      .ost_status = fleet_world_chance(w, 8) == 0);
	else if (plug_is_granted(v) && fleet_world_chance(w, 40) == 0)
		APPLY(w, x, .kind = FLEET_EJECT, .vcpu = vcpu, .cause = CPUPOLICY_EJECT_GUEST);
	else
		power_on(w, x, vcpu);
}

static void guest_or_vmm(struct fleet_world *w, struct fleet_world_vm *x)
{
	static const enum cpupolicy_run_state states[] = {CPUPOLICY_RUN_RUNNING, CPUPOLICY_RUN_RUNNING,
							  CPUPOLICY_RUN_PAUSED, CPUPOLICY_RUN_INACTIVE};
	struct cpupolicy_vcpu vcpus[FLEET_WORLD_VCPUS];

	switch (fleet_world_chance(w, 60)) {
	case 0:
	case 1:
		APPLY(w, x, .kind = FLEET_RUN_STATE, .run_state = states[fleet_world_chance(w, 4)]);
		break;
	case 2:
		APPLY(w, x, .kind = FLEET_RESET);
		break;
	case 3:
		report(x, vcpus);
		APPLY(w, x, .kind = FLEET_STATE, .run_state = x->member.core->run_state, .vcpus = vcpus);
		break;
	case 4:
		APPLY(w, x, .kind = FLEET_LOST, .gone = fleet_world_chance(w, 3) == 0);
		break;
	case 5:
		APPLY(w, x, .kind = FLEET_DENIED, .vcpu = (uint32_t)fleet_world_chance(w, x->possible),
		      .reason = CPUPOLICY_REASON_OVERLOAD, .count = 3);
		break;
	case 6:
		APPLY(w, x, .kind = FLEET_CONFIRM, .epoch = x->member.core->epoch,
		      .generation = x->member.core->generation);
		break;
	default:
		if (x->member.core->run_state == CPUPOLICY_RUN_PAUSED && fleet_world_chance(w, 2))
			APPLY(w, x, .kind = FLEET_RUN_STATE, .run_state = CPUPOLICY_RUN_RUNNING);
		else
			guest_acts(w, x);
		break;
	}
}

/* ---- clients and operators ---- */

/* Nothing is on its way that an event would complete or cut short besides what it is about. */
static bool is_calm(const struct fleet_world *w)
{
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		const struct vm *vm = w->vms[i].member.core;

		if (!vm)
			continue;
		if (ledger_demand(&w->f.ledger, &w->vms[i].member.entry)->overdue > 0)
			return false;
		for (uint32_t k = 0; k < vm->possible; k++)
			if ((vm->vcpus[k].flags & (VCPU_ENABLED | VCPU_DURABLE)) == VCPU_ENABLED)
				return false;
	}
	return true;
}

static void resize(struct fleet_world *w, struct fleet_world_vm *x)
{
	uint32_t count = (uint32_t)fleet_world_chance(w, x->possible + 2), millis = 0;
	struct fleet_answer answer;
	struct explain explained;
	bool calm = is_calm(w);

	if (count > 0 && fleet_world_chance(w, 3) == 0) {
		millis = 1000 * count - (uint32_t)fleet_world_chance(w, 1000);
		w->fractional++;
	}
	fleet_explain(&w->f, &x->member, count, w->now, &explained);
	answer = APPLY(w, x, .kind = FLEET_RESIZE, .count = count, .job = w->last_job + 1, .millis = millis);
	w->last_job += answer.rule == RULE_NONE;
	if (answer.rule != explained.refused)
		fleet_world_wrong(w, x, "explained otherwise than it was", answer.rule, explained.refused);
	w->calm += calm;
	if (calm && answer.rule == RULE_NONE && x->member.core->link != VM_STOPPED &&
	    vm_target(x->member.core) != explained.target && explained.bound != RULE_PLUG_RATE)
		fleet_world_wrong(w, x, "explained another target", vm_target(x->member.core), explained.target);
}

static void assign(struct fleet_world *w, struct fleet_world_vm *x)
{
	uint32_t class = x->class, tenant = x->tenant;
	struct fleet_answer answer;

	fleet_world_count(w, x);
	choose_assignment(w, x);
	answer = APPLY(w, x, .kind = FLEET_ASSIGN, .assignment = assignment(w, x));
	if (answer.rule != RULE_NONE) {
		x->class = class;
		x->tenant = tenant;
	} else if (x->member.class->burst.metered && !w->classes[w->policy][class].burst.metered) {
		/* Its first balance, or the one that it had in another class before. */
		x->count.balance = x->member.credit.balance;
	}
}

static void import(struct fleet_world *w, struct fleet_world_vm *x)
{
	int64_t balance = (int64_t)fleet_world_chance(w, 400 * SECOND) - (int64_t)(200 * SECOND);

	fleet_world_count(w, x);
	if (APPLY(w, x, .kind = FLEET_IMPORT, .balance = balance, .spent = fleet_world_chance(w, 2)).rule != RULE_NONE)
		return;
	x->count.balance = balance;
	fleet_world_recount(x);
}

static void policy_assigns(const struct fleet_vm *m, struct fleet_assignment *ret, void *userdata)
{
	*ret = assignment(userdata, fleet_world_of(m));
}

static void reload(struct fleet_world *w)
{
	struct fleet_policy policy;
	const struct service_class *before[FLEET_WORLD_VMS];
	unsigned old = w->policy;
	int r;

	fleet_world_draw_policy(w, !old);
	w->policy = !old;
	policy = (struct fleet_policy){
		.tenants = w->tenants[w->policy],
		.n_tenants = FLEET_WORLD_TENANTS,
		.observe = fleet_world_chance(w, 6) == 0,
		.assign = policy_assigns,
		.userdata = w,
	};
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		before[i] = w->vms[i].member.class;
		if (w->vms[i].member.core)
			fleet_world_count(w, &w->vms[i]);
	}
	r = fleet_reload(&w->f, &policy, w->now);
	if ((r < 0) != w->f.frozen)
		fleet_world_wrong(w, NULL, "a frozen host took another policy", 0, 0);
	if (r < 0) {
		w->policy = old;
		return;
	}
	w->reloads++;
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		struct fleet_world_vm *x = &w->vms[i];

		if (!x->member.core)
			continue;
		if (x->member.class->burst.metered && !before[i]->burst.metered)
			x->count.balance = x->member.credit.balance;
		fleet_world_recount(x);
	}
	after(w, NULL);
}

static void operate(struct fleet_world *w)
{
	uint64_t shift;

	if (w->f.frozen && fleet_world_chance(w, 3) == 0) {
		apply(w, (struct fleet_event){.kind = FLEET_FREEZE, .on = false});
		return;
	}
	switch (fleet_world_chance(w, 8)) {
	case 0:
		apply(w, (struct fleet_event){.kind = FLEET_FREEZE, .on = fleet_world_chance(w, 3) == 0});
		break;
	case 1:
		apply(w, (struct fleet_event){.kind = FLEET_DRAIN, .on = fleet_world_chance(w, 4) == 0});
		break;
	case 2:
	case 3:
	case 4:
		apply(w, (struct fleet_event){.kind = FLEET_CAPACITY,
					      .count = fleet_world_chance(w, 10) == 0
							       ? FLEET_UNLIMITED
							       : 10 + (uint32_t)fleet_world_chance(w, 150)});
		break;
	case 5:
		shift = fleet_world_chance(w, 10) * USAGE_HOUR / 3;
		apply(w, (struct fleet_event){.kind = FLEET_CLOCK,
					      .clock = {.boot = w->now, .real = 1000 * USAGE_HOUR + w->now + shift}});
		break;
	default:
		reload(w);
		break;
	}
}

/* ---- the disk's answer, and the daemon's end ---- */

static void stored(struct fleet_world *w, struct fleet_world_vm *x, bool ok)
{
	struct fleet_record record = x->write;

	x->writing = false;
	if (ok)
		x->disk = record;
	APPLY(w, x, .kind = FLEET_STORED, .revision = x->revision, .ok = ok, .granted = record.enabled);
	if (x->member.core->revision > x->revision && !x->writing)
		write_record(w, x);
}

static void restore(struct fleet_world *w, struct fleet_world_vm *x, bool alive)
{
	const struct fleet_record *r = &x->disk;
	struct vm *vm;

	x->class = r->class;
	x->tenant = r->tenant;
	x->member = (struct fleet_vm){.name = x->name};
	x->member.uuid[0] = (uint8_t)((x - w->vms) * 37 + 1);
	x->member.uuid[1] = (uint8_t)(x - w->vms);
	if (vm_new(&vm, x->possible, &w->classes[w->policy][x->class]) < 0)
		abort();
	x->member.core = vm;
	vm->desired = r->desired;
	vm->desired_set = r->desired_set;
	vm->millis = r->millis;
	vm->boot = r->boot;
	vm->boot_removable = r->boot_removable;
	vm->notify = r->notify;
	vm->epoch = r->epoch;
	vm->last_job = r->last_job;
	if (!r->stopped && r->job.id != 0)
		job_start(&vm->job, r->job.id, r->job.from, r->job.to, 5 * SECOND, false, w->now);
	if (!r->stopped)
		vm_restore_grants(vm, r->enabled, r->wanted);
	if (fleet_add(&w->f, &x->member, &(struct fleet_assignment){&w->classes[w->policy][x->class], x->tenant},
		      w->now) < 0)
		abort();
	/* From the record on it had what the record says. */
	x->count = r->count;
	fleet_restore(&w->f, &x->member, &r->saved, alive, w->now);
	x->quota = vm_quota(vm);
	x->count.class = x->member.class;
	x->count.billed = alive && !r->stopped;
	x->count.guaranteed = class_guaranteed(x->member.class, x->possible);
	x->count.enabled = 0;
	for (uint32_t i = 0; i < x->possible; i++)
		x->count.enabled += r->enabled[i / 8] >> i % 8 & 1;
	if (x->member.class->burst.metered) {
		x->count.balance = r->saved.credit_opened ? r->saved.balance : x->member.class->burst.initial;
		if (x->count.balance > x->member.class->burst.cap)
			x->count.balance = x->member.class->burst.cap;
	}
	fleet_world_count(w, x);
	fleet_world_recount(x);
	x->held = plug_count_enabled(vm);
}

static void crash(struct fleet_world *w)
{
	struct fleet_ops ops = {.row = fleet_world_row, .userdata = w};
	struct usage_clock clock = w->f.clock;
	uint32_t capacity = w->f.capacity;
	bool gone[FLEET_WORLD_VMS] = {false};

	w->crashes++;
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		w->vms[i].member.core = vm_free(w->vms[i].member.core);
		w->vms[i].writing = false;
	}
	fleet_clear(&w->f);
	fleet_init(&w->f, &ops, &clock);
	w->f.now = w->now;
	w->f.next_hour = usage_next_hour(&clock, w->now);
	if (fleet_reload(&w->f,
			 &(struct fleet_policy){.tenants = w->tenants[w->policy],
						.n_tenants = FLEET_WORLD_TENANTS,
						.assign = policy_assigns,
						.userdata = w},
			 w->now) < 0)
		abort();
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		struct fleet_world_vm *x = &w->vms[i];

		if (!x->disk.present)
			continue;
		gone[i] = !x->disk.stopped && fleet_world_chance(w, 8) == 0;
		restore(w, x, !gone[i]);
	}
	apply(w, (struct fleet_event){.kind = FLEET_CAPACITY, .count = capacity});
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++)
		if (gone[i])
			APPLY(w, &w->vms[i], .kind = FLEET_LOST, .gone = true);
}

/* ---- a successor ---- */

/* What the successor of a daemon has of a connected VM whose record is on disk; all others it would have to wait for. */
static void succeed(struct fleet_world *w, struct fleet_world_vm *x)
{
	struct vcpu vcpus[FLEET_WORLD_VCPUS];
	struct vm_handover handover = {.vcpus = vcpus};
	uint8_t enabled[FLEET_WORLD_VCPUS / 8], wanted[FLEET_WORLD_VCPUS / 8];
	struct vm *old = x->member.core, *vm;

	if (!vm_handover_get(old, &handover))
		return;
	if (vm_new(&vm, x->possible, old->class) < 0)
		abort();
	vm->desired = old->desired;
	vm->desired_set = old->desired_set;
	vm->millis = old->millis;
	vm->means = old->means;
	vm->realm = old->realm;
	vm->boot = old->boot;
	vm->boot_removable = old->boot_removable;
	vm->notify = old->notify;
	vm->epoch = old->epoch;
	vm->last_job = old->last_job;
	if (old->job.id != 0)
		job_start(&vm->job, old->job.id, old->job.from, old->job.to, old->class->job_timeout, false, w->now);
	vm_record_grants(old, enabled, wanted);
	vm_restore_grants(vm, enabled, wanted);
	/* Only what comes after it counts. */
	vm->revision = old->revision;
	vm->stored = old->stored;
	vm_free(old);
	x->member.core = vm;
	if (!vm_handover_fits(vm, &handover, w->now))
		fleet_world_wrong(w, x, "what was handed over does not fit", handover.epoch, vm->epoch);
	vm_handover_set(vm, &handover);
	w->handed_over++;
}

static void rebuild(struct fleet_world *w, struct fleet_world_vm *x, const struct fleet_saved *saved)
{
	const struct fleet_vm old = x->member;
	struct fleet_assignment a = {old.class, old.tenant};

	x->member = (struct fleet_vm){.core = old.core, .name = x->name};
	memcpy(x->member.uuid, old.uuid, sizeof(old.uuid));
	if (fleet_add(&w->f, &x->member, &a, w->now) < 0)
		abort();
	fleet_restore(&w->f, &x->member, saved, true, w->now);
	x->member.usage.guaranteed_ns = old.usage.guaranteed_ns;
	x->member.usage.burst_ns = old.usage.burst_ns;
}

/* After a write that failed nothing is granted for a while, which only the daemon that met it knows; as it is with a VM
 * that is disconnected. */
static bool is_held_back(const struct fleet_world *w)
{
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		const struct vm *vm = w->vms[i].member.core;

		if (!vm || vm->link == VM_STOPPED)
			continue;
		if (plug_count_wanted(vm) < vm_target(vm) && !vm->rate_waits)
			return true;
		if (vm->link == VM_DISCONNECTED && (vm->job.id != 0 || vm->allowance != vm->numbers.wanted))
			return true;
	}
	return false;
}

/* Nothing may come of it: the rest of the run is what it would have been. */
static void hand_over(struct fleet_world *w)
{
	struct fleet_saved saved[FLEET_WORLD_VMS];
	const struct fleet before = w->f;
	struct fleet_vm *m;
	unsigned effects;

	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		if (!w->vms[i].member.core)
			continue;
		fleet_save(&w->f, &w->vms[i].member, w->now, &saved[i]);
		succeed(w, &w->vms[i]);
	}
	fleet_clear(&w->f);
	fleet_init(&w->f, &before.ops, &before.clock);
	w->f.now = before.now;
	w->f.next_hour = before.next_hour;
	if (fleet_reload(&w->f,
			 &(struct fleet_policy){.tenants = before.tenants,
						.n_tenants = before.n_tenants,
						.observe = before.observe,
						.assign = policy_assigns,
						.userdata = w},
			 w->now) < 0)
		abort();
	fleet_apply(&w->f, &(struct fleet_event){.kind = FLEET_CAPACITY, .now = w->now, .count = before.capacity});
	fleet_apply(&w->f, &(struct fleet_event){.kind = FLEET_DRAIN, .now = w->now, .on = before.drained});
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++)
		if (w->vms[i].member.core)
			rebuild(w, &w->vms[i], &saved[i]);
	fleet_apply(&w->f, &(struct fleet_event){.kind = FLEET_TICK, .now = w->now});
	while ((m = fleet_next(&w->f, &effects)))
		if (effects & (VM_EFFECT_PAGE | VM_EFFECT_STORE | VM_EFFECT_JOB_ENDED))
			fleet_world_wrong(w, fleet_world_of(m), "a successor did something", effects, 0);
	fleet_world_check(w);
}

/* ---- the world ---- */

static void pass_time(struct fleet_world *w)
{
	static const uint64_t scales[] = {MS, MS, MS, MS, 20 * MS, 20 * MS, 300 * MS, 2 * SECOND};
	uint64_t until = w->now + fleet_world_chance(w, scales[fleet_world_chance(w, 8)]);

	if (fleet_world_chance(w, 5000) == 0)
		until += fleet_world_chance(w, 3 * USAGE_HOUR);
	while (fleet_deadline(&w->f) <= until) {
		uint64_t deadline = fleet_deadline(&w->f);

		w->now = deadline > w->now ? deadline : w->now;
		apply(w, (struct fleet_event){.kind = FLEET_TICK});
		if (fleet_deadline(&w->f) <= w->now)
			fleet_world_wrong(w, NULL, "a tick did not do what was due", w->now, fleet_deadline(&w->f));
	}
	w->now = until;
}

static void vm_step(struct fleet_world *w, struct fleet_world_vm *x)
{
	if (!x->member.core) {
		start(w, x);
		return;
	}
	if (x->writing && fleet_world_chance(w, 3) > 0) {
		stored(w, x, fleet_world_chance(w, 30) > 0);
		return;
	}
	switch (fleet_world_chance(w, 40)) {
	case 0:
	case 1:
	case 2:
	case 3:
		resize(w, x);
		return;
	case 4:
		assign(w, x);
		return;
	case 5:
		import(w, x);
		return;
	case 6:
		if (fleet_world_chance(w, 4) == 0)
			removed(w, x);
		return;
	default:
		break;
	}
	if (x->member.core->link == VM_CONNECTED)
		guest_or_vmm(w, x);
	else if (x->member.core->link == VM_STOPPED)
		start(w, x);
	else if (fleet_world_chance(w, 4) == 0)
		resume(w, x);
}

void fleet_world_step(struct fleet_world *w)
{
	pass_time(w);
	if (fleet_world_chance(w, 50) == 0)
		operate(w);
	else if (fleet_world_chance(w, 3000) == 0)
		crash(w);
	else
		vm_step(w, &w->vms[fleet_world_chance(w, FLEET_WORLD_VMS)]);
	/* What is due already, a successor does at once. */
	if (w->hand_over > 0 && ++w->steps % w->hand_over == 0 && !w->f.frozen && fleet_deadline(&w->f) > w->now &&
	    !is_held_back(w))
		hand_over(w);
	if (w->events % 64 == 0)
		for (unsigned i = 0; i < FLEET_WORLD_VMS; i++)
			if (w->vms[i].member.core)
				fleet_world_check_count(w, &w->vms[i]);
}

void fleet_world_init(struct fleet_world *w, uint64_t seed)
{
	struct fleet_ops ops = {.row = fleet_world_row, .userdata = w};
	struct usage_clock clock = {.boot = 5, .real = 1000 * USAGE_HOUR + 5};

	*w = (struct fleet_world){.seed = seed, .random = seed, .now = 5};
	fleet_init(&w->f, &ops, &clock);
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		w->vms[i].possible = 1 + (uint32_t)fleet_world_chance(w, FLEET_WORLD_VCPUS);
		snprintf(w->vms[i].name, sizeof(w->vms[i].name), "vm%u", i);
	}
	reload(w);
	apply(w, (struct fleet_event){.kind = FLEET_CAPACITY, .count = 80});
}

void fleet_world_done(struct fleet_world *w)
{
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++)
		w->vms[i].member.core = vm_free(w->vms[i].member.core);
	fleet_clear(&w->f);
}

/* ---- everybody does as they should ---- */

static bool cooperate(struct fleet_world *w, struct fleet_world_vm *x)
{
	const struct vm *vm = x->member.core;

	if (x->writing) {
		stored(w, x, true);
		return true;
	}
	if (vm->link == VM_DISCONNECTED) {
		resume(w, x);
		return true;
	}
	if (vm->link == VM_STOPPED)
		return false;
	if (vm->run_state != CPUPOLICY_RUN_RUNNING) {
		APPLY(w, x, .kind = FLEET_RUN_STATE, .run_state = CPUPOLICY_RUN_RUNNING);
		return true;
	}
	for (uint32_t i = 1; i < x->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];

		if (!plug_is_granted(v))
			continue;
		if (!plug_is_wanted(v))
			APPLY(w, x, .kind = FLEET_EJECT, .vcpu = i, .cause = CPUPOLICY_EJECT_REQUESTED);
		else if (!(v->flags & VCPU_ACKED))
			APPLY(w, x, .kind = FLEET_OST, .vcpu = i, .ost_event = 1, .ost_status = 0);
		else
			continue;
		return true;
	}
	return false;
}

static bool waits_for_rate(const struct fleet_world *w)
{
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++)
		if (w->vms[i].member.core && w->vms[i].member.core->link != VM_STOPPED &&
		    w->vms[i].member.core->rate_waits)
			return true;
	return false;
}

static void check_settled(const struct fleet_world *w, const struct fleet_world_vm *x)
{
	const struct vm *vm = x->member.core;
	const struct ledger_share *s = ledger_share(&w->f.ledger, &x->member.entry);
	bool fixed = !vm->boot_removable && vm->boot > vm_target(vm);

	if (vm->link == VM_STOPPED)
		return;
	if (plug_count_enabled(vm) != plug_count_wanted(vm))
		fleet_world_wrong(w, x, "not all that was asked back was given", plug_count_enabled(vm),
				  plug_count_wanted(vm));
	if (plug_count_wanted(vm) != vm_target(vm) && !fixed)
		fleet_world_wrong(w, x, "not all that may be had is", plug_count_wanted(vm), vm_target(vm));
	if (vm->job.id != 0 && vm_waits(vm) == VM_WAITS_FOR_NOTHING)
		fleet_world_wrong(w, x, "a job goes on with nothing to wait for", vm->job.pending, vm->job.settled);
	if (s->bound == RULE_CAPACITY && w->f.ledger.sums.occupied < w->f.ledger.capacity)
		fleet_world_wrong(w, x, "it waits for room that there is", w->f.ledger.sums.occupied,
				  w->f.ledger.capacity);
	if (s->allowance < s->entitled) {
		for (unsigned i = 0; i < FLEET_WORLD_VMS; i++)
			if (w->vms[i].member.core && !w->vms[i].member.core->boot_removable)
				return; /* that keeps what it booted with */
		fleet_world_wrong(w, x, "left behind", s->allowance, s->entitled);
	}
}

void fleet_world_settle(struct fleet_world *w)
{
	int rounds = 0;
	bool moved;

	apply(w, (struct fleet_event){.kind = FLEET_FREEZE, .on = false});
	apply(w, (struct fleet_event){.kind = FLEET_DRAIN, .on = false});
	do {
		if (++rounds > 20000)
			fleet_world_wrong(w, NULL, "it does not settle", 0, 0);
		moved = false;
		for (unsigned i = 0; i < FLEET_WORLD_VMS; i++)
			if (w->vms[i].member.core)
				moved = cooperate(w, &w->vms[i]) || moved;
		if (!moved && waits_for_rate(w)) {
			w->now = fleet_deadline(&w->f) > w->now ? fleet_deadline(&w->f) : w->now;
			apply(w, (struct fleet_event){.kind = FLEET_TICK});
			moved = true;
		}
	} while (moved);
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		if (!w->vms[i].member.core)
			continue;
		check_settled(w, &w->vms[i]);
		fleet_world_check_count(w, &w->vms[i]);
	}
}
