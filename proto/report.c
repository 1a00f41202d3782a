/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "report.h"

/* Events leave room for the asks of many callers, and everything for the farewell. */
#define EVENT_LIMIT (CPUPOLICY_CHANNEL_BUFFER * 3 / 4)
#define STATE_LIMIT (CPUPOLICY_CHANNEL_BUFFER - 64)

#define DENIAL_INTERVAL_NS UINT64_C(100000000)

static int put(struct cpupolicy *c, enum cpupolicy_request request, const void *payload, uint32_t size, size_t limit)
{
	struct cpupolicy_header header = {
		.request = request,
		.size = size,
		.seq = cpupolicy_session_next_seq(c, 0),
	};
	int r;

	r = cpupolicy_channel_put(&c->channel, &header, payload, limit);
	if (r == 0)
		cpupolicy_channel_flush(&c->channel);
	return r;
}

void cpupolicy_report_event(struct cpupolicy *c, enum cpupolicy_request request, const void *payload)
{
	if (!cpupolicy_session_reports(c) || c->overflowed)
		return;
	if (put(c, request, payload, cpupolicy_msg_row(request)->size, EVENT_LIMIT) < 0) {
		c->overflowed = true;
		c->resync = true;
	}
}

/* ---- denials ---- */

static void send_denials(struct cpupolicy *c, uint32_t vcpu, uint64_t now)
{
	struct cpupolicy_denials *d = &c->denials[vcpu];
	struct cpupolicy_power power = {
		.vcpu = vcpu,
		.event = CPUPOLICY_POWER_DENIED,
		.reason = d->reason,
		.count = d->count,
	};

	if (d->count == 0 || c->overflowed)
		return;
	cpupolicy_report_event(c, CPUPOLICY_POWER, &power);
	if (c->overflowed)
		return;
	d->count = 0;
	d->quiet_until = now + DENIAL_INTERVAL_NS;
}

void cpupolicy_report_denied(struct cpupolicy *c, uint32_t vcpu, enum cpupolicy_reason reason)
{
	struct cpupolicy_denials *d = &c->denials[vcpu];
	bool registered = c->state == CPUPOLICY_SESSION_REGISTERED;
	uint64_t now = cpupolicy_session_now();

	/* One message has one reason. */
	if (registered && d->reason != reason)
		send_denials(c, vcpu, now);
	d->reason = reason;
	if (d->count < UINT32_MAX)
		d->count++;
	if (registered && now >= d->quiet_until)
		send_denials(c, vcpu, now);
	if (d->count > 0) {
		c->denials_pending = true;
		if (registered)
			cpupolicy_session_wake(c, d->quiet_until);
	}
}

static uint64_t flush_denials(struct cpupolicy *c, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	if (!c->denials_pending || c->overflowed)
		return next;
	for (uint32_t i = 0; i < c->identity.possible && !c->overflowed; i++) {
		struct cpupolicy_denials *d = &c->denials[i];

		if (d->count > 0 && d->quiet_until <= now)
			send_denials(c, i, now);
		else if (d->count > 0 && d->quiet_until < next)
			next = d->quiet_until;
	}
	c->denials_pending = next != UINT64_MAX || c->overflowed;
	return next;
}

/* ---- the whole state ---- */

enum cpupolicy_run_state cpupolicy_report_collect(struct cpupolicy *c, struct cpupolicy_vcpu *vcpus)
{
	const struct cpupolicy_identity *id = &c->identity;
	enum cpupolicy_run_state state;

	for (uint32_t i = 0; i < id->possible; i++)
		vcpus[i] = (struct cpupolicy_vcpu){.mpidr = id->mpidrs[i]};
	state = c->ops.get_state(c->opaque, vcpus, id->possible);
	for (uint32_t i = 0; i < id->possible; i++) {
		vcpus[i].mpidr = id->mpidrs[i];
		vcpus[i].flags &= CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED;
		if (cpupolicy_policy_ejected(&c->policy, i))
			vcpus[i].flags |=
				CPUPOLICY_VCPU_EJECTED | (c->policy.vcpu[i].own ? CPUPOLICY_VCPU_EJECT_OWN : 0);
		vcpus[i].reserved = 0;
	}
	if (state < CPUPOLICY_RUN_RUNNING || state > CPUPOLICY_RUN_INACTIVE)
		state = CPUPOLICY_RUN_RUNNING;
	c->run_state = state;
	return state;
}

static void send_state(struct cpupolicy *c)
{
	union cpupolicy_msg_payload m;
	uint32_t size = (uint32_t)(sizeof(m.state.head) + c->identity.possible * sizeof(m.state.vcpus[0]));

	m.state.head.possible = c->identity.possible;
	m.state.head.run_state = cpupolicy_report_collect(c, m.state.vcpus);
	if (put(c, CPUPOLICY_STATE, &m, size, STATE_LIMIT) < 0)
		return;
	c->resync = false;
	if (c->overflowed) {
		c->overflowed = false;
		cpupolicy_report_confirm(c);
	}
}

void cpupolicy_report_confirm(struct cpupolicy *c)
{
	struct cpupolicy_confirm m = {.generation = c->confirmed, .epoch = c->confirmed_epoch};

	if (c->state == CPUPOLICY_SESSION_REGISTERED && c->confirmed_epoch != 0)
		cpupolicy_report_event(c, CPUPOLICY_CONFIRM, &m);
}

uint64_t cpupolicy_report_flush(struct cpupolicy *c, uint64_t now)
{
	if (c->state != CPUPOLICY_SESSION_REGISTERED)
		return UINT64_MAX;
	/* A full buffer is left to drain: a state that is sent late is as true as one that is sent now. */
	if (c->resync && (!c->overflowed || cpupolicy_channel_is_empty(&c->channel)))
		send_state(c);
	return flush_denials(c, now);
}
