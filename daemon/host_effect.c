/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/host_private.h"

void host_effect_publish(struct host_vm *vm)
{
	struct host_session *s = vm->live;
	struct vm *core = vm->core;

	if (!s || s->awaits != 0)
		return;
	for (uint32_t i = 0; i < core->possible; i++)
		vmpage_set_word(s->page, i, vm_word(core, i));
	vmpage_publish(s->page, core->epoch, ++core->generation);
	vmpage_ring(s->page);
}

void host_effect_arm(struct host_vm *vm)
{
	uint64_t when = vm_deadline(vm->core);

	if (vm->record.retry_at < when)
		when = vm->record.retry_at;
	if (vm->record.out_of_memory)
		when = 0;
	loop_timer_set(vm->timer, when);
}

void host_effect_timer(void *userdata)
{
	struct host_vm *vm = userdata;
	uint64_t now = loop_now(vm->host->loop);

	host_effect_apply(vm, vm_tick(vm->core, now));
	host_effect_arm(vm);
	/* Last: it may be the end of a VM that waits for its write. */
	host_record_tick(vm, now);
}

void host_effect_job_ended(struct host_vm *vm, const struct job *job)
{
	const struct host_observer *observer = vm->host->observer;

	for (struct host_request *request = vm->requests; request; request = request->next) {
		if (request->job.id == job->id) {
			request->ended = *job;
			return;
		}
	}
	host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .job = job->id, .uid = &job->uid),
			"resize of VM %s from %u to %u vCPUs: %s", vm->name, job->from, job->to,
			job_result_name(job->result));
	if (observer && observer->job_removed)
		observer->job_removed(vm, job, vm->host->observer_data);
}

void host_effect_apply(struct host_vm *vm, unsigned effects)
{
	/* First the page: what is taken away holds at once, what is granted is masked until it is durable. */
	if (effects & VM_EFFECT_PAGE)
		host_effect_publish(vm);
	if (effects & VM_EFFECT_STORE)
		host_record_touch(vm, false);
	if (effects & VM_EFFECT_JOB_ENDED)
		host_effect_job_ended(vm, &vm->core->last_job);
	if (vm->job != vm->core->job.id)
		host_index_set_job(&vm->host->index, vm, vm->core->job.id);
	if (effects & VM_EFFECT_CHANGED)
		host_notice_changed(vm);
	if (effects & VM_EFFECT_DEADLINE)
		host_effect_arm(vm);
}
