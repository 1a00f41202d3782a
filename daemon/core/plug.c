/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/plug.h"

/* ---- counting ---- */

uint32_t plug_count_enabled(const struct vm *vm)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < vm->possible; i++)
		n += (vm->vcpus[i].flags & VCPU_ENABLED) != 0;
	return n;
}

uint32_t plug_count_wanted(const struct vm *vm)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < vm->possible; i++)
		n += plug_is_wanted(&vm->vcpus[i]);
	return n;
}

struct vm_numbers plug_count(const struct vm *vm)
{
	struct vm_numbers n = {0};

	for (uint32_t i = 0; i < vm->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];

		n.enabled += (v->flags & VCPU_ENABLED) != 0;
		n.wanted += plug_is_wanted(v);
		n.granted += plug_is_granted(v);
		n.overdue += (v->flags & VCPU_OVERDUE) != 0;
		n.stray += (v->flags & (VCPU_ENABLED | VCPU_ONLINE)) == VCPU_ONLINE;
	}
	return n;
}

/* ---- CPU time ---- */

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

uint32_t plug_quota(const struct vm *vm)
{
	/* Grants that are not durable count: the cap is to be there before the page shows them. */
	const struct vm_numbers *n = &vm->numbers;
	uint32_t quota = VM_QUOTA_NONE;

	if (vm->link == VM_STOPPED)
		return VM_QUOTA_NONE;
	if (vm->millis > 0 && (n->enabled + n->stray) * 1000 > vm->millis)
		quota = vm->millis;
	if (vm->observe)
		return quota;
	if (vm->class->refusal == CLASS_QUOTA && n->overdue + n->stray > 0)
		quota = least(quota, vm_target(vm) * 1000);
	if (vm->class->standing_quota)
		quota = least(quota, n->enabled * 1000);
	return quota;
}

static void set_quota(struct plug *p)
{
	uint32_t quota = plug_quota(p->vm);

	if (quota == p->vm->quota)
		return;
	p->vm->quota = quota;
	p->effects |= VM_EFFECT_QUOTA | VM_EFFECT_CHANGED;
}

/* ---- one vCPU ---- */

void plug_touch(struct plug *p)
{
	p->durable = true;
	p->effects |= VM_EFFECT_CHANGED;
}

static void set_flag(struct plug *p, uint32_t vcpu, uint8_t flag, bool on)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];
	uint8_t flags = on ? v->flags | flag : v->flags & ~flag;

	if (flags != v->flags)
		p->effects |= VM_EFFECT_CHANGED;
	v->flags = flags;
}

void plug_set_online(struct plug *p, uint32_t vcpu, bool online)
{
	set_flag(p, vcpu, VCPU_ONLINE, online);
}

void plug_set_acked(struct plug *p, uint32_t vcpu, bool acked)
{
	set_flag(p, vcpu, VCPU_ACKED, acked);
}

void plug_set_answer(struct plug *p, uint32_t vcpu, enum vcpu_answer answer)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];

	if (v->answer != answer)
		p->effects |= VM_EFFECT_CHANGED;
	v->answer = (uint8_t)answer;
}

/* A vCPU that a request moves belongs to the job of that request. */
static void join_job(struct plug *p, uint32_t vcpu)
{
	if (p->vm->job.id != 0)
		p->vm->vcpus[vcpu].flags |= VCPU_IN_JOB;
}

static void next_grant(struct vcpu *v)
{
	/* 0 says that it was never granted. */
	if (++v->grant == 0)
		v->grant = 1;
}

void plug_grant(struct plug *p, uint32_t vcpu)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];

	next_grant(v);
	v->flags |= VCPU_ENABLED | VCPU_WANTED;
	v->answer = VCPU_ANSWER_NONE;
	v->granted_at = p->vm->revision + 1;
	join_job(p, vcpu);
	plug_touch(p);
}

void plug_drop(struct plug *p, uint32_t vcpu)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];

	if (v->flags & VCPU_DURABLE)
		p->effects |= VM_EFFECT_PAGE;
	v->flags &= (uint8_t) ~(VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE | VCPU_ACKED | VCPU_OVERDUE);
	v->answer = VCPU_ANSWER_NONE;
	plug_touch(p);
}

void plug_renew(struct plug *p, uint32_t vcpu)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];

	next_grant(v);
	v->flags &= (uint8_t)~VCPU_ACKED;
	v->answer = VCPU_ANSWER_NONE;
	v->since = p->vm->generation + 1;
	p->effects |= VM_EFFECT_PAGE | VM_EFFECT_CHANGED;
}

void plug_remind(struct plug *p, uint32_t vcpu)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];

	v->serial++;
	plug_set_answer(p, vcpu, VCPU_ANSWER_NONE);
	join_job(p, vcpu);
	if (v->flags & VCPU_DURABLE)
		p->effects |= VM_EFFECT_PAGE;
}

static bool asked_back(const struct vcpu *v)
{
	return (v->flags & (VCPU_ENABLED | VCPU_WANTED)) == VCPU_ENABLED;
}

void plug_set_overdue(struct plug *p, uint32_t vcpu)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];

	if ((v->flags & VCPU_OVERDUE) || p->vm->frozen)
		return;
	v->flags |= VCPU_OVERDUE;
	p->effects |= VM_EFFECT_CHANGED;
	if (plug_is_revoked(p->vm, v))
		p->effects |= VM_EFFECT_PAGE;
}

void plug_reclaim(struct plug *p)
{
	for (uint32_t i = 1; i < p->vm->possible; i++) {
		if (!asked_back(&p->vm->vcpus[i]))
			continue;
		plug_set_overdue(p, i);
		plug_remind(p, i);
	}
}

static void ask_back(struct plug *p, uint32_t vcpu)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];

	if (!(v->flags & VCPU_DURABLE)) {
		plug_drop(p, vcpu);
		join_job(p, vcpu);
		return;
	}
	v->flags &= (uint8_t)~VCPU_WANTED;
	plug_remind(p, vcpu);
	plug_touch(p);
}

static void cancel(struct plug *p, uint32_t vcpu)
{
	struct vcpu *v = &p->vm->vcpus[vcpu];

	v->flags |= VCPU_WANTED;
	v->flags &= (uint8_t)~VCPU_OVERDUE;
	if (v->flags & (VCPU_ACKED | VCPU_ONLINE)) {
		plug_set_answer(p, vcpu, VCPU_ANSWER_NONE);
		join_job(p, vcpu);
		p->effects |= VM_EFFECT_PAGE;
	} else {
		plug_remind(p, vcpu);
	}
	plug_touch(p);
}

/* ---- the plug rate ---- */

/* A minute of the VM's clock is a second of the bucket's. */
#define RATE_SCALE 60u

static struct rate_limit plug_limit(const struct vm *vm)
{
	return (struct rate_limit){.per_second = vm->class->plugs.per_minute, .burst = vm->class->plugs.burst};
}

void plug_rate_init(struct vm *vm, uint64_t now)
{
	struct rate_limit limit = plug_limit(vm);

	rate_init(&vm->plugs, &limit, now / RATE_SCALE);
}

uint64_t plug_rate_next(const struct vm *vm, uint64_t now)
{
	struct rate_limit limit = plug_limit(vm);
	uint64_t next = rate_next(&vm->plugs, &limit, now / RATE_SCALE);

	return next < UINT64_MAX / RATE_SCALE ? next * RATE_SCALE : UINT64_MAX;
}

uint32_t plug_rate_left(const struct vm *vm, uint64_t now)
{
	struct rate_limit limit = plug_limit(vm);
	struct rate bucket = vm->plugs;
	uint32_t n = 0;

	while (n < CPUPOLICY_MAX_VCPUS && rate_take(&bucket, &limit, now / RATE_SCALE))
		n++;
	return n;
}

static bool rate_permits(struct plug *p)
{
	struct rate_limit limit = plug_limit(p->vm);

	return rate_take(&p->vm->plugs, &limit, p->now / RATE_SCALE);
}

/* ---- all of them ---- */

static bool may_take(const struct vm *vm, uint32_t vcpu)
{
	return vcpu > 0 && (vm->boot_removable || vcpu >= vm->boot);
}

void plug_converge(struct plug *p, bool grow)
{
	struct vm *vm = p->vm;
	uint32_t wanted = plug_count_wanted(vm), target = vm_target(vm);

	if (vm->link == VM_STOPPED || vm->frozen)
		return;
	vm->rate_waits = false;
	for (uint32_t i = vm->possible; i-- > 0 && wanted > target;) {
		if (plug_is_wanted(&vm->vcpus[i]) && may_take(vm, i)) {
			ask_back(p, i);
			wanted--;
		}
	}
	/* First those that the guest still has: who keeps what it was asked for does not get another one besides. */
	for (uint32_t i = 0; i < vm->possible && wanted < target; i++) {
		if (asked_back(&vm->vcpus[i])) {
			cancel(p, i);
			wanted++;
		}
	}
	for (uint32_t i = 0; grow && i < vm->possible && wanted < target; i++) {
		if (vm->vcpus[i].flags & VCPU_ENABLED)
			continue;
		vm->rate_waits = !rate_permits(p);
		if (vm->rate_waits)
			break;
		plug_grant(p, i);
		wanted++;
	}
}

/* ---- the job ---- */

enum standing {
	PENDING,
	SETTLED,
	REFUSED,
};

/* `refused` of a vCPU that is not enabled: the guest gave back what it was to get. */
static enum standing vcpu_standing(const struct vcpu *v)
{
	bool refused = v->answer == VCPU_ANSWER_REFUSED || v->answer == VCPU_ANSWER_FORBIDDEN;

	if (!(v->flags & VCPU_ENABLED))
		return refused ? REFUSED : SETTLED;
	if ((v->flags & VCPU_WANTED) && (v->flags & (VCPU_ACKED | VCPU_ONLINE)))
		return SETTLED;
	return refused ? REFUSED : PENDING;
}

static void tally(struct vm *vm)
{
	struct job *j = &vm->job;
	uint32_t added = 0, online = 0, span = j->from > j->to ? j->from - j->to : j->to - j->from;

	j->pending = j->settled = j->refused = 0;
	j->forbidden = false;
	for (uint32_t i = 0; i < vm->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];

		if (!(v->flags & VCPU_IN_JOB))
			continue;
		switch (vcpu_standing(v)) {
		case PENDING:
			j->pending++;
			break;
		case SETTLED:
			j->settled++;
			break;
		case REFUSED:
			j->refused++;
			j->forbidden = j->forbidden || v->answer == VCPU_ANSWER_FORBIDDEN;
			break;
		}
		if (plug_is_wanted(v)) {
			added++;
			online += (v->flags & VCPU_ONLINE) != 0;
		}
	}
	if (vm->job_restored)
		j->settled = span > j->pending + j->refused ? span - j->pending - j->refused : 0;
	j->online = added > 0 && added == online;
}

void plug_end_job(struct plug *p, enum job_result result)
{
	struct vm *vm = p->vm;

	for (uint32_t i = 0; i < vm->possible; i++) {
		/* What supersedes it asks for the same again, or no more. */
		if ((vm->vcpus[i].flags & VCPU_IN_JOB) && asked_back(&vm->vcpus[i]) && result != JOB_SUPERSEDED)
			plug_set_overdue(p, i);
		vm->vcpus[i].flags &= (uint8_t)~VCPU_IN_JOB;
	}
	vm->last_job = vm->job;
	vm->last_job.result = result;
	vm->last_job.online = vm->job.online && result == JOB_DONE;
	vm->job = (struct job){0};
	vm->job_restored = false;
	p->effects |= VM_EFFECT_JOB_ENDED;
	plug_touch(p);
}

/* Neither the guest nor its VMM can be expected to act: their time stands. */
static bool is_paused(const struct vm *vm)
{
	return vm->link == VM_CONNECTED && vm->run_state != CPUPOLICY_RUN_RUNNING;
}

static void set_clock(struct plug *p)
{
	struct vm *vm = p->vm;

	/* Without its VMM nobody knows whether the VM is paused: a job must end. */
	if (is_paused(vm) || vm->job_revision > vm->stored || vm_waits(vm) != VM_WAITS_FOR_NOTHING)
		job_pause(&vm->job, p->now);
	else
		job_continue(&vm->job, p->now);
}

/* How the job stands if the guest has done its part. What is missing for want of room is not the guest's to do. */
static enum job_result outcome(const struct plug *p)
{
	const struct vm *vm = p->vm;
	bool expired = p->now >= job_deadline(&vm->job);
	enum job_result result;

	if (vm->link == VM_STOPPED)
		return JOB_DISCONNECTED;
	if (vm_waits(vm) != VM_WAITS_FOR_NOTHING)
		return JOB_RUNNING;
	result = job_outcome(&vm->job, expired);
	if (result != JOB_RUNNING && vm->job.pending > 0 && vm->link == VM_DISCONNECTED)
		return JOB_DISCONNECTED;
	/* A limit that was lowered meanwhile. */
	return result == JOB_DONE && vm->job.to > vm->class->limit ? JOB_PARTIAL : result;
}

static void judge(struct plug *p)
{
	struct vm *vm = p->vm;
	enum job_result result;

	if (vm->job.id == 0)
		return;
	tally(vm);
	if (vm->job_revision > vm->stored)
		return; /* the client does not know of it yet */
	result = outcome(p);
	if (result != JOB_RUNNING)
		plug_end_job(p, result);
}

/* ---- what is not given back ---- */

/* A revoked vCPU that is off cannot come back: there is nothing left to wait for. */
static void drop_revoked(struct plug *p)
{
	struct vm *vm = p->vm;

	if (vm->class->refusal != CLASS_REVOKE || vm->link != VM_CONNECTED || vm->frozen)
		return;
	for (uint32_t i = 1; i < vm->possible; i++)
		if (plug_is_revoked(vm, &vm->vcpus[i]) && !(vm->vcpus[i].flags & VCPU_ONLINE))
			plug_drop(p, i);
}

static void set_reclaim(struct plug *p)
{
	struct vm *vm = p->vm;
	bool pending = vm->numbers.enabled > vm->numbers.wanted;

	if (!pending || vm->link != VM_CONNECTED || is_paused(vm) || vm->frozen)
		vm->reclaim_at = UINT64_MAX;
	else if (vm->reclaim_at == UINT64_MAX)
		vm->reclaim_at = p->now + vm->class->retry_interval;
}

/* ---- an event ---- */

struct plug plug_begin(struct vm *vm, uint64_t now)
{
	return (struct plug){.vm = vm, .now = now, .deadline = vm_deadline(vm)};
}

unsigned plug_end(struct plug *p)
{
	drop_revoked(p);
	set_clock(p);
	judge(p);
	drop_revoked(p); /* what is overdue since the job has ended */
	p->vm->numbers = plug_count(p->vm);
	set_quota(p);
	set_reclaim(p);
	if (p->durable) {
		p->vm->revision++;
		p->effects |= VM_EFFECT_STORE;
	}
	if (vm_deadline(p->vm) != p->deadline)
		p->effects |= VM_EFFECT_DEADLINE;
	return p->effects;
}
