/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/vm_host.h"

#include <string.h>

#define ALL_FLAGS (CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE)

void vm_host_setup(struct vm_host *h, uint32_t possible)
{
	*h = (struct vm_host){
		.level = {.name = "test",
			  .guaranteed = 1,
			  .limit = possible,
			  .retry_interval = RETRY,
			  .ask_timeout_ms = 100,
			  .job_timeout = TIMEOUT},
		.now = 100,
		.confirm = true,
	};
	ck_assert_uint_le(possible, VM_EVENT_VCPUS);
	ck_assert_int_eq(vm_new(&h->vm, possible, &h->level), 0);
}

void vm_host_done(struct vm_host *h)
{
	h->vm = vm_free(h->vm);
}

void vm_host_after(struct vm_host *h, const struct vm_event *e, unsigned effects)
{
	const char *wrong = vm_event_verify(e, h->vm, effects);

	ck_assert_msg(!wrong, "%s (effects %x, vCPUs %s)", wrong, effects, vm_host_flags(h));
	h->effects = effects;
	if (effects & VM_EFFECT_PAGE) {
		h->vm->generation++;
		if (h->confirm && h->vm->link == VM_CONNECTED)
			vm_confirm(h->vm, h->vm->epoch, h->vm->generation);
	}
}

void vm_host_stored(struct vm_host *h)
{
	uint8_t enabled[VM_EVENT_VCPUS / 8], wanted[VM_EVENT_VCPUS / 8];

	while (h->vm->stored < h->vm->revision) {
		vm_record_grants(h->vm, enabled, wanted);
		EVENT(h, vm_stored(h->vm, h->vm->revision, true, enabled, h->now));
	}
}

void vm_host_failed(struct vm_host *h)
{
	EVENT(h, vm_stored(h->vm, h->vm->revision, false, NULL, h->now));
}

static const struct vm_registration *registration(struct vm_host *h, const uint32_t *vcpu_flags)
{
	static struct cpupolicy_vcpu vcpus[VM_EVENT_VCPUS];
	static struct vm_registration reg;

	for (uint32_t i = 0; i < h->vm->possible; i++) {
		const struct vcpu *v = &h->vm->vcpus[i];
		uint32_t same = (v->flags & VCPU_ONLINE ? CPUPOLICY_VCPU_ONLINE : 0) |
				(v->flags & VCPU_ACKED ? CPUPOLICY_VCPU_ACKED : 0);

		vcpus[i] = (struct cpupolicy_vcpu){.mpidr = i, .flags = vcpu_flags ? vcpu_flags[i] : same};
	}
	reg = (struct vm_registration){
		.flags = ALL_FLAGS,
		.boot = 1,
		.run_state = CPUPOLICY_RUN_RUNNING,
		.vcpus = vcpus,
	};
	return &reg;
}

const struct vm_registration *vm_host_report(struct vm_host *h, const uint32_t *vcpu_flags)
{
	return registration(h, vcpu_flags);
}

void vm_host_start_flags(struct vm_host *h, uint32_t boot, uint32_t flags, const uint32_t *vcpu_flags)
{
	struct vm_registration reg = *registration(h, vcpu_flags);

	reg.boot = boot;
	reg.flags = flags;
	EVENT(h, vm_start(h->vm, &reg, h->now));
}

void vm_host_start(struct vm_host *h, uint32_t boot, uint32_t flags)
{
	vm_host_start_flags(h, boot, flags, NULL);
	vm_host_stored(h);
}

enum vm_refusal vm_host_try(struct vm_host *h, uint32_t count)
{
	struct job superseded = {.id = 77};
	unsigned effects = 77;
	struct vm_event e;
	enum vm_refusal refusal;

	vm_event_begin(&e, h->vm);
	refusal = vm_resize(h->vm, count, h->last_id + 1, h->now, &superseded, &effects);
	if (refusal != VM_ACCEPTED) {
		ck_assert_uint_eq(superseded.id, 77);
		ck_assert_uint_eq(effects, 77);
		ck_assert_ptr_null(vm_event_verify(&e, h->vm, 0));
		ck_assert_int_eq(memcmp(e.vm, h->vm, sizeof(*h->vm) + h->vm->possible * sizeof(struct vcpu)), 0);
		return refusal;
	}
	h->last_id++;
	vm_host_after(h, &e, effects);
	return VM_ACCEPTED;
}

struct job vm_host_resize(struct vm_host *h, uint32_t count)
{
	struct job superseded = {.id = 77};
	unsigned effects = 0;
	struct vm_event e;

	vm_event_begin(&e, h->vm);
	ck_assert_int_eq(vm_resize(h->vm, count, ++h->last_id, h->now, &superseded, &effects), VM_ACCEPTED);
	vm_host_after(h, &e, effects);
	ck_assert_uint_eq(h->vm->job.id, h->last_id);
	return superseded;
}

const char *vm_host_flags(const struct vm_host *h)
{
	static const char letters[] = "EWDOA";
	static char text[VM_EVENT_VCPUS * 8];
	char *p = text;

	for (uint32_t i = 0; i < h->vm->possible; i++) {
		char *start = p;

		for (int b = 0; b < 5; b++) {
			if (h->vm->vcpus[i].flags & 1 << b)
				*p++ = letters[b];
		}
		if (p == start)
			*p++ = '-';
		*p++ = ' ';
	}
	p[-1] = '\0';
	return text;
}

const char *vm_host_set(const struct vm_host *h)
{
	static char text[VM_EVENT_VCPUS + 1];
	uint32_t i;

	for (i = 0; i < h->vm->possible; i++) {
		uint8_t flags = h->vm->vcpus[i].flags;

		text[i] = !(flags & VCPU_ENABLED)  ? '-'
			  : !(flags & VCPU_WANTED) ? 'o'
			  : flags & VCPU_DURABLE   ? 'x'
						   : '+';
	}
	text[i] = '\0';
	return text;
}

/* ---- the usual steps ---- */

void vm_host_ack(struct vm_host *h, uint32_t vcpu)
{
	EVENT(h, vm_ost(h->vm, vcpu, 1, 0, h->now));
}

void vm_host_ejected(struct vm_host *h, uint32_t vcpu)
{
	EVENT(h, vm_eject(h->vm, vcpu, CPUPOLICY_EJECT_REQUESTED, h->now));
}

void vm_host_refuse(struct vm_host *h, uint32_t vcpu)
{
	EVENT(h, vm_ost(h->vm, vcpu, 3, 0x82, h->now));
}

void vm_host_expire(struct vm_host *h)
{
	h->now = vm_deadline(h->vm);
	ck_assert_uint_ne(h->now, UINT64_MAX);
	EVENT(h, vm_tick(h->vm, h->now));
}

void vm_host_ended(const struct vm_host *h, uint64_t id, enum job_result result)
{
	ck_assert_msg(h->vm->last_job.id == id && h->vm->last_job.result == result, "job %llu: %s",
		      (unsigned long long)h->vm->last_job.id, job_result_name(h->vm->last_job.result));
	ck_assert_uint_eq(h->vm->job.id, 0);
	ck_assert_uint_eq(vm_deadline(h->vm), h->vm->reclaim_at);
}

void vm_host_new(struct vm_host *h, uint32_t possible, uint32_t boot, uint32_t flags)
{
	vm_host_setup(h, possible);
	vm_host_start(h, boot, flags);
}
