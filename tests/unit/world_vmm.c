/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/world.h"

#include <string.h>

static bool has(uint8_t set, uint32_t vcpu)
{
	return set >> vcpu & 1;
}

static void put(uint8_t *set, uint32_t vcpu, bool in)
{
	*set = (uint8_t)(in ? *set | 1u << vcpu : *set & ~(1u << vcpu));
}

const struct page *vmm_page(const struct world_vm *x)
{
	if (x->vmm.session == VMM_REGISTERED)
		return &x->page;
	return x->vmm.has_page ? &x->vmm.frozen : NULL;
}

static uint64_t word(const struct world_vm *x, uint32_t vcpu)
{
	const struct page *page = vmm_page(x);

	return page ? page->words[vcpu] : 0;
}

static uint32_t grant_of(uint64_t w)
{
	return (uint32_t)(w >> CPUPOLICY_WORD_GRANT_SHIFT);
}

bool vmm_ejected(const struct world_vm *x, uint32_t vcpu)
{
	const struct mark *m = &x->vmm.marks[vcpu];

	return m->ejected && m->grant == grant_of(word(x, vcpu));
}

/* _STA Enabled */
static bool guest_has(const struct world_vm *x, uint32_t vcpu)
{
	return (word(x, vcpu) & CPUPOLICY_WORD_ENABLED) && !vmm_ejected(x, vcpu);
}

void vmm_report(const struct world_vm *x, struct cpupolicy_vcpu *vcpus)
{
	for (uint32_t i = 0; i < x->possible; i++) {
		const struct mark *m = &x->vmm.marks[i];
		bool ejected = vmm_ejected(x, i);

		vcpus[i] = (struct cpupolicy_vcpu){.mpidr = i};
		vcpus[i].flags = (has(x->vmm.online, i) ? CPUPOLICY_VCPU_ONLINE : 0) |
				 (has(x->vmm.acked, i) ? CPUPOLICY_VCPU_ACKED : 0) |
				 (ejected ? CPUPOLICY_VCPU_EJECTED : 0) |
				 (ejected && m->own ? CPUPOLICY_VCPU_EJECT_OWN : 0);
	}
}

/* ---- the connection ---- */

void vmm_disconnected(struct world_vm *x)
{
	struct vmm *v = &x->vmm;

	if (v->session == VMM_REGISTERED) {
		v->frozen = x->page;
		v->has_page = true;
	}
	v->session = VMM_OFF;
	v->queued = 0;
	v->resync = false;
}

void vmm_adopt(struct world_vm *x)
{
	struct vmm *v = &x->vmm;

	v->session = VMM_REGISTERED;
	v->has_page = true;
	for (uint32_t i = 0; i < x->possible; i++) {
		struct mark *m = &v->marks[i];

		m->ejected = m->ejected && m->late;
		m->late = false;
		m->grant = grant_of(x->page.words[i]);
	}
}

static void send(struct world_vm *x, enum message_kind kind, uint32_t a, uint32_t b, uint32_t c)
{
	struct vmm *v = &x->vmm;

	if (v->session == VMM_OFF)
		return;
	if (v->queued == WORLD_QUEUE || v->resync) {
		v->resync = true;
		return;
	}
	v->queue[v->queued++] = (struct message){.kind = kind, .a = a, .b = b, .c = c};
}

static void send_state(struct world_vm *x)
{
	struct vmm *v = &x->vmm;

	if (v->session != VMM_REGISTERED || v->queued == WORLD_QUEUE) {
		v->resync = v->session != VMM_OFF;
		return;
	}
	v->queue[v->queued] = (struct message){.kind = MSG_STATE, .a = v->run_state};
	vmm_report(x, v->queue[v->queued].vcpus);
	v->queued++;
	v->resync = false;
}

static void receive(struct world *w, struct world_vm *x, const struct message *m)
{
	struct vm *vm = x->vm;

	switch (m->kind) {
	case MSG_POWER:
		if (m->b)
			WORLD_EVENT(w, x, vm_power_on(vm, m->a, CPUPOLICY_REASON_GRANTED, w->now));
		else
			WORLD_EVENT(w, x, vm_power_off(vm, m->a, w->now));
		break;
	case MSG_OST:
		WORLD_EVENT(w, x, vm_ost(vm, m->a, m->b, m->c, w->now));
		break;
	case MSG_EJECT:
		x->vmm.eject_arrives = m->a;
		WORLD_EVENT(w, x, vm_eject(vm, m->a, (enum cpupolicy_eject_cause)m->b, w->now));
		x->vmm.eject_arrives = 0;
		break;
	case MSG_RUN:
		WORLD_EVENT(w, x, vm_run_state(vm, (enum cpupolicy_run_state)m->a, w->now));
		break;
	case MSG_RESET:
		WORLD_EVENT(w, x, vm_reset(vm, w->now));
		break;
	case MSG_STATE:
		WORLD_EVENT(w, x, vm_state(vm, (enum cpupolicy_run_state)m->a, m->vcpus, w->now));
		break;
	case MSG_CONFIRM:
		WORLD_EVENT(w, x, vm_confirm(vm, m->a, m->b));
		break;
	}
}

bool vmm_deliver(struct world *w, struct world_vm *x)
{
	struct vmm *v = &x->vmm;
	struct message m;

	if (v->session != VMM_REGISTERED)
		return false;
	if (v->queued == 0) {
		if (!v->resync)
			return false;
		send_state(x);
		return true;
	}
	m = v->queue[0];
	memmove(v->queue, v->queue + 1, --v->queued * sizeof(v->queue[0]));
	world_log(w, x, "deliver", m.kind, m.a << 16 | m.b << 8 | m.c);
	receive(w, x, &m);
	return true;
}

/* ---- what VMM and guest do ---- */

static void power_on(struct world *w, struct world_vm *x, uint32_t vcpu)
{
	uint8_t bit = (uint8_t)(1u << vcpu);

	/* Invariant 1: what is admitted is granted, by the disk and by the daemon if there is one. */
	if (vcpu > 0 && !x->level.observe) {
		if (!x->disk.present || !(x->disk.enabled & bit))
			world_fail(w, x, "CPU_ON of a vCPU whose grant is not durable");
		if (x->vm && x->vmm.session == VMM_REGISTERED &&
		    (x->vm->vcpus[vcpu].flags & (VCPU_ENABLED | VCPU_DURABLE)) != (VCPU_ENABLED | VCPU_DURABLE))
			world_fail(w, x, "CPU_ON of a vCPU that is not granted");
	}
	w->admitted++;
	put(&x->vmm.online, vcpu, true);
	send(x, MSG_POWER, vcpu, 1, 0);
}

static bool asked_allow(struct world *w, struct world_vm *x, uint32_t vcpu)
{
	struct vm_verdict verdict;

	if (x->vmm.session != VMM_REGISTERED || x->vmm.queued > 0 || x->vmm.resync)
		return (word(x, vcpu) & CPUPOLICY_WORD_TIMEOUT_ALLOW) && guest_has(x, vcpu);
	verdict = vm_ask(x->vm, vcpu, w->now);
	return verdict.psci == CPUPOLICY_PSCI_SUCCESS;
}

static void cpu_on(struct world *w, struct world_vm *x, uint32_t vcpu)
{
	uint64_t p = word(x, vcpu);
	uint64_t verdict = (p & CPUPOLICY_WORD_VERDICT_MASK) >> CPUPOLICY_WORD_VERDICT_SHIFT;
	bool allow = vcpu == 0 || (guest_has(x, vcpu) && verdict != CPUPOLICY_VERDICT_DENY);

	if (has(x->vmm.online, vcpu) || !vmm_page(x))
		return;
	if (allow && vcpu > 0 && verdict == CPUPOLICY_VERDICT_ASK)
		allow = asked_allow(w, x, vcpu);
	world_log(w, x, "CPU_ON", vcpu, allow);
	if (allow || p & CPUPOLICY_WORD_OBSERVE)
		power_on(w, x, vcpu);
	else
		w->denied++;
}

static void mark(struct world_vm *x, uint32_t vcpu, bool ejected, bool own)
{
	x->vmm.marks[vcpu] = (struct mark){
		.ejected = ejected,
		.own = own,
		.late = ejected && x->vmm.session == VMM_REGISTERING,
		.grant = grant_of(word(x, vcpu)),
	};
}

static void eject(struct world_vm *x, uint32_t vcpu, enum cpupolicy_eject_cause cause)
{
	put(&x->vmm.online, vcpu, false);
	put(&x->vmm.acked, vcpu, false);
	mark(x, vcpu, true, cause == CPUPOLICY_EJECT_GUEST);
	x->vmm.gave[vcpu] = grant_of(word(x, vcpu));
	x->vmm.applied[vcpu] = 0;
	send(x, MSG_EJECT, vcpu, cause, 0);
}

static void guest_ejects(struct world *w, struct world_vm *x, uint32_t vcpu)
{
	uint64_t applied = x->vmm.applied[vcpu];
	bool requested = (applied & CPUPOLICY_WORD_ENABLED) && !(applied & CPUPOLICY_WORD_WANTED);

	if (vcpu == 0 || !guest_has(x, vcpu))
		return;
	world_log(w, x, "ejects", vcpu, requested);
	eject(x, vcpu, requested ? CPUPOLICY_EJECT_REQUESTED : CPUPOLICY_EJECT_GUEST);
}

static void guest_resets(struct world *w, struct world_vm *x)
{
	world_log(w, x, "reset", 0, 0);
	for (uint32_t i = 1; i < x->possible; i++) {
		if (!guest_has(x, i))
			continue;
		if (word(x, i) & CPUPOLICY_WORD_WANTED)
			put(&x->vmm.acked, i, true);
		else
			eject(x, i, CPUPOLICY_EJECT_RESET);
	}
	x->vmm.online = 1;
	send(x, MSG_RESET, 0, 0, 0);
}

static void apply(struct world *w, struct world_vm *x)
{
	if (x->vmm.session != VMM_REGISTERED)
		return;
	world_log(w, x, "applies", x->page.epoch, x->page.generation);
	for (uint32_t i = 0; i < x->possible; i++) {
		uint64_t p = x->page.words[i], changed = p ^ x->vmm.applied[i];

		if (!(p & CPUPOLICY_WORD_ENABLED) || vmm_ejected(x, i))
			continue;
		/* A new grant is a new device to the guest. */
		if (grant_of(changed) != 0)
			put(&x->vmm.acked, i, false);
		if ((p & CPUPOLICY_WORD_WANTED) && changed != 0)
			put(&x->vmm.notified, i, true);
	}
	for (uint32_t i = 0; i < x->possible; i++)
		x->vmm.applied[i] = x->page.words[i];
	send(x, MSG_CONFIRM, x->page.epoch, x->page.generation, 0);
}

static void snapshot(struct world *w, struct world_vm *x)
{
	struct vmm *v = &x->vmm;

	if (!v->saved || world_random(w, 3) == 0) {
		v->saved = true;
		v->saved_online = v->online;
		v->saved_acked = v->acked;
		v->saved_ejected = 0;
		for (uint32_t i = 1; i < x->possible; i++)
			put(&v->saved_ejected, i, vmm_ejected(x, i));
		return;
	}
	/* Loading takes long enough for what was said before to arrive. */
	if (v->queued > 0 || v->resync)
		return;
	world_log(w, x, "loads a snapshot", v->saved_online, v->saved_ejected);
	v->online = v->saved_online;
	v->acked = v->saved_acked;
	memset(v->applied, 0, sizeof(v->applied));
	/* Without a session a mark only comes, it does not go: the daemon may have acted on it, and could not say so. */
	for (uint32_t i = 1; i < x->possible; i++) {
		if (has(v->saved_ejected, i) || v->session == VMM_REGISTERED)
			mark(x, i, has(v->saved_ejected, i), world_random(w, 2));
	}
	send_state(x);
}

static void answer(struct world *w, struct world_vm *x, uint32_t vcpu)
{
	static const uint32_t events[] = {1, 1, 3, 3, 0x103, 0};
	static const uint32_t statuses[] = {0, 0, 1, 0x80, 0x82, 0x84};
	uint32_t event = events[world_random(w, 6)], status = statuses[world_random(w, 6)];

	if (event == 1 && status == 0 && guest_has(x, vcpu))
		put(&x->vmm.acked, vcpu, true);
	send(x, MSG_OST, vcpu, event, status);
}

void vmm_step(struct world *w, struct world_vm *x)
{
	static const enum cpupolicy_run_state states[] = {CPUPOLICY_RUN_RUNNING, CPUPOLICY_RUN_RUNNING,
							  CPUPOLICY_RUN_PAUSED, CPUPOLICY_RUN_INACTIVE};
	uint32_t vcpu = (uint32_t)world_random(w, x->possible);

	switch (world_random(w, 40)) {
	case 0 ... 9:
		cpu_on(w, x, vcpu);
		break;
	case 10 ... 13:
		if (has(x->vmm.online, vcpu)) {
			put(&x->vmm.online, vcpu, false);
			send(x, MSG_POWER, vcpu, 0, 0);
		}
		break;
	case 14 ... 19:
		answer(w, x, vcpu);
		break;
	case 20 ... 26:
		/* Most guests eject what they are asked for. */
		if (!(word(x, vcpu) & CPUPOLICY_WORD_WANTED) || world_random(w, 8) == 0)
			guest_ejects(w, x, vcpu);
		break;
	case 27:
		guest_resets(w, x);
		break;
	case 28:
		if (world_random(w, 4) == 0)
			snapshot(w, x);
		break;
	case 29 ... 30:
		x->vmm.run_state = states[world_random(w, 4)];
		send(x, MSG_RUN, x->vmm.run_state, 0, 0);
		break;
	default:
		apply(w, x);
		break;
	}
}

bool vmm_cooperate(struct world *w, struct world_vm *x)
{
	bool busy = false;

	if (x->vmm.run_state != CPUPOLICY_RUN_RUNNING) {
		x->vmm.run_state = CPUPOLICY_RUN_RUNNING;
		send(x, MSG_RUN, CPUPOLICY_RUN_RUNNING, 0, 0);
		busy = true;
	}
	if (memcmp(x->vmm.applied, x->page.words, x->possible * sizeof(uint64_t)) != 0) {
		apply(w, x);
		busy = true;
	}
	for (uint32_t i = 1; i < x->possible; i++) {
		if (!guest_has(x, i))
			continue;
		if (!(word(x, i) & CPUPOLICY_WORD_WANTED)) {
			guest_ejects(w, x, i);
			busy = true;
		} else if (!has(x->vmm.acked, i) || has(x->vmm.notified, i)) {
			put(&x->vmm.acked, i, true);
			put(&x->vmm.notified, i, false);
			send(x, MSG_OST, i, 1, 0);
			busy = true;
		}
	}
	return busy;
}

void vmm_check(struct world *w, struct world_vm *x)
{
	const struct page *page = vmm_page(x);
	uint8_t online = 0;

	if (!x->vmm.alive || !page)
		return;
	for (uint32_t i = 1; i < x->possible; i++) {
		if ((page->words[i] & CPUPOLICY_WORD_ENABLED) && !vmm_ejected(x, i) &&
		    (!x->disk.present || !has(x->disk.enabled, i)))
			world_fail(w, x, "the page shows a grant that is not durable");
	}
	/* What is online is known, so that what is online without a grant is visible. */
	if (x->vmm.session != VMM_REGISTERED || x->vmm.queued > 0 || x->vmm.resync)
		return;
	for (uint32_t i = 0; i < x->possible; i++)
		put(&online, i, x->vm->vcpus[i].flags & VCPU_ONLINE);
	if (online != x->vmm.online)
		world_fail(w, x, "the daemon is wrong about what is online");
}
