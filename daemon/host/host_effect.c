/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/host/host_private.h"

/* For a VMM that cannot ask: what an ask that nobody answers comes to. */
static uint64_t word_without_ask(uint64_t word)
{
	bool granted = (word & CPUPOLICY_WORD_ENABLED) && (word & CPUPOLICY_WORD_TIMEOUT_ALLOW);
	uint64_t verdict = (word & CPUPOLICY_WORD_VERDICT_MASK) >> CPUPOLICY_WORD_VERDICT_SHIFT;

	if (verdict != CPUPOLICY_VERDICT_ASK)
		return word;
	verdict = granted || (word & CPUPOLICY_WORD_OBSERVE) ? CPUPOLICY_VERDICT_ALLOW : CPUPOLICY_VERDICT_DENY;
	return (word & ~(uint64_t)CPUPOLICY_WORD_VERDICT_MASK) | verdict << CPUPOLICY_WORD_VERDICT_SHIFT;
}

static uint64_t page_word(const struct host_vm *vm, uint32_t vcpu)
{
	uint64_t word = vm_word(vm->core, vcpu);

	return vm->live->features & CPUPOLICY_F_ASK ? word : word_without_ask(word);
}

bool host_effect_is_published(const struct host_vm *vm)
{
	for (uint32_t i = 0; i < vm->core->possible; i++)
		if (!vmpage_says(vm->live->page, i, page_word(vm, i)))
			return false;
	return true;
}

void host_effect_publish(struct host_vm *vm)
{
	struct host_session *s = vm->live;
	struct vm *core = vm->core;

	if (!s || s->awaits != 0)
		return;
	for (uint32_t i = 0; i < core->possible; i++)
		vmpage_set_word(s->page, i, page_word(vm, i));
	vmpage_publish(s->page, core->epoch, ++core->generation);
	vmpage_ring(s->page);
	if (vm->host->recorder)
		recorder_published(vm->host->recorder, &vm->member, host_now(vm->host));
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
	vm->host->counters.jobs[job->result]++;
	host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .job = job->id, .uid = &job->uid),
			"resize of VM %s from %u to %u vCPUs: %s", vm->name, job->from, job->to,
			job_result_name(job->result));
	if (observer && observer->job_removed)
		observer->job_removed(vm, job, vm->host->observer_data);
}

/* Whether its meters run is recorded, so that a daemon that starts anew bills no time in which they stood still. */
static bool meters_turned(struct host_vm *vm)
{
	if (vm->billed == vm->member.billed)
		return false;
	vm->billed = vm->member.billed;
	if (vm->billed)
		host_meter_arm(vm);
	return true;
}

void host_effect_apply(struct host_vm *vm, unsigned effects)
{
	bool turned = meters_turned(vm);

	/* What is taken away holds at once and what is granted is masked until it is durable: so the page goes first. */
	if (effects & VM_EFFECT_PAGE)
		host_effect_publish(vm);
	if (!(effects & HOST_EFFECT_RECORDED) && (turned || (effects & (VM_EFFECT_STORE | FLEET_EFFECT_ROW))))
		host_record_touch(vm, false);
	if (effects & VM_EFFECT_JOB_ENDED)
		host_effect_job_ended(vm, &vm->core->last_job);
	if (vm->job != vm->core->job.id)
		host_index_set_job(&vm->host->index, vm, vm->core->job.id);
	if (effects & VM_EFFECT_QUOTA)
		host_quota_follow(vm);
	if (effects & (VM_EFFECT_CHANGED | FLEET_EFFECT_POLICY))
		host_notice_changed(vm);
	if (effects != 0)
		host_notice_host(vm->host);
}
