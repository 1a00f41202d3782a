/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A VMM may cause any number of changes and denials in one turn of the loop; observers and the log are told once per
 * turn, VM and vCPU, at its end.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "daemon/host/host_private.h"
#include "daemon/base/util.h"
#include "proto/message.h"

#define DENIAL_LINES 10u

/* ---- gathering ---- */

static void enlist(struct host_vm *vm)
{
	struct host *host = vm->host;

	if (vm->noticed || !vm->visible)
		return;
	vm->noticed = true;
	vm->noticed_next = host->noticed;
	host->noticed = vm;
	loop_deferred_schedule(host->notices);
}

void host_notice_changed(struct host_vm *vm)
{
	vm->changed = true;
	enlist(vm);
}

void host_notice_denied(struct host_vm *vm, uint32_t vcpu, const struct vm_verdict *verdict, enum rule rule,
			uint32_t count)
{
	bool denied = verdict->psci != CPUPOLICY_PSCI_SUCCESS;
	struct host_denial *denial;

	vm->host->counters.verdicts[denied ? COUNTERS_DENIED : COUNTERS_OBSERVED][verdict->would] += count;
	host_notice_changed(vm);
	if (!vm->denials)
		vm->denials = calloc(vm->core->possible, sizeof(*vm->denials));
	if (!vm->denials)
		return; /* the core has counted it */
	denial = &vm->denials[vcpu];
	denial->count = denial->count > UINT32_MAX - count ? UINT32_MAX : denial->count + count;
	denial->verdict = *verdict;
	denial->rule = rule;
	vm->denied = true;
}

void host_notice_host(struct host *host)
{
	loop_deferred_schedule(host->notices);
}

void host_notice_drop(struct host_vm *vm)
{
	struct host_vm **at = &vm->host->noticed;

	if (!vm->noticed)
		return;
	while (*at != vm)
		at = &(*at)->noticed_next;
	*at = vm->noticed_next;
	vm->noticed = false;
}

/* ---- telling ---- */

bool host_notice_gate(struct host_vm *vm)
{
	return peerlog_open(&vm->host->peerlog, vm->peer.uid, host_now(vm->host));
}

static void log_denial(struct host_vm *vm, uint32_t vcpu, const struct host_denial *denial)
{
	const struct vm_verdict *verdict = &denial->verdict;
	const char *reason = cpupolicy_msg_reason_name(verdict->would);
	const char *rule = denial->rule != RULE_NONE ? rule_name(denial->rule) : NULL;
	bool enforced = verdict->psci != CPUPOLICY_PSCI_SUCCESS;
	uint32_t dropped;

	if (!log_gate_open(&vm->denial_gate, DENIAL_LINES, host_now(vm->host), &dropped))
		return;
	if (dropped > 0)
		host_notice_log(vm, HOST_LINE(.level = LOG_NOTICE),
				"VM %s: left out %u lines about denied CPU_ON calls", vm->name, dropped);
	host_notice_log(vm,
			HOST_LINE(.level = LOG_NOTICE, .vcpu = &vcpu, .verdict = enforced ? "deny" : "allow",
				  .reason = reason, .rule = rule, .uid = &vm->peer.uid),
			"VM %s: CPU_ON of vCPU %u %s: %s%s%s (%u call%s)", vm->name, vcpu,
			enforced ? "denied" : "would have been denied", reason, rule ? ", " : "", rule ? rule : "",
			denial->count, denial->count == 1 ? "" : "s");
}

static void flush_denials(struct host_vm *vm)
{
	struct host *host = vm->host;

	vm->denied = false;
	for (uint32_t i = 0; i < vm->core->possible; i++) {
		struct host_denial denial = vm->denials[i];

		if (denial.count == 0)
			continue;
		vm->denials[i].count = 0;
		log_denial(vm, i, &denial);
		if (host->observer && host->observer->denied)
			host->observer->denied(vm, i, &denial.verdict, denial.rule, denial.count, host->observer_data);
	}
}

static void tell_host(struct host *host)
{
	struct host_view now;

	host_view(host, &now);
	if (memcmp(&now, &host->told, sizeof(now)) == 0)
		return;
	memcpy(&host->told, &now, sizeof(now));
	if (host->observer && host->observer->host_changed)
		host->observer->host_changed(host->observer_data);
}

void host_notice_flush(void *userdata)
{
	struct host *host = userdata;

	if (host->change_fn)
		host->change_fn(host->change_data);
	tell_host(host);

	while (host->noticed) {
		struct host_vm *vm = host->noticed;

		host_notice_drop(vm);
		host_vm_hold(vm);
		if (vm->denied)
			flush_denials(vm);
		if (vm->changed && !vm->removed && host->observer && host->observer->changed)
			host->observer->changed(vm, host->observer_data);
		vm->changed = false;
		host_vm_release(vm);
	}
}

/* ---- the log ---- */

void host_notice_log(const struct host_vm *vm, const struct host_line *line, const char *format, ...)
{
	const uid_t *uid_of = line->peer ? &line->peer->uid : line->uid;
	char vcpu[16], job[24], uid[16], pid[16], text[1024];
	va_list ap;

	if (line->vcpu)
		snprintf(vcpu, sizeof(vcpu), "%u", *line->vcpu);
	if (uid_of)
		snprintf(uid, sizeof(uid), "%u", (unsigned)*uid_of);
	if (line->peer)
		snprintf(pid, sizeof(pid), "%d", (int)line->peer->pid);
	snprintf(job, sizeof(job), "%" PRIu64, line->job);
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);

	const struct log_field fields[] = {
		{"VM_UUID", vm->uuid_text},
		{"VM_NAME", vm->name},
		{"VCPU", line->vcpu ? vcpu : NULL},
		{"VERDICT", line->verdict},
		{"REASON", line->reason},
		{"RULE", line->rule},
		{"JOB", line->job != 0 ? job : NULL},
		{"UID", uid_of ? uid : NULL},
		{"PEER_PID", line->peer ? pid : NULL},
		{"PEER_LABEL", line->peer ? line->peer->label : NULL},
		{"PEER_UNIT", line->peer ? line->peer->unit : NULL},
		{"PEER_SLICE", line->peer ? line->peer->slice : NULL},
		{"PEER_MACHINE", line->peer ? line->peer->machine : NULL},
		{NULL, NULL},
	};

	log_fields(line->level, fields, "%s", text);
}
