/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * query-cpu-policy, cpu-policy-set, CPU_POLICY_CHANGED (cpu-policy.json).
 *
 * The command that switches vCPUs is for a machine whose policy is its own: standalone, or while there is no daemon and
 * the machine's owner permitted it beforehand. A daemon's policy is changed at the daemon.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-cpu-policy.h"
#include "qapi/qapi-events-cpu-policy.h"

#include "glue.h"

static CpuPolicyLink link_to_qapi(enum cpupolicy_link link)
{
	switch (link) {
	case CPUPOLICY_LINK_LOCAL:
		return CPU_POLICY_LINK_LOCAL;
	case CPUPOLICY_LINK_REGISTERED:
		return CPU_POLICY_LINK_REGISTERED;
	case CPUPOLICY_LINK_REFUSED:
		return CPU_POLICY_LINK_REFUSED;
	default:
		return CPU_POLICY_LINK_CONNECTING;
	}
}

static CpuPolicyVcpu *vcpu_info(CpuPolicy *pol, uint32_t i)
{
	const struct cpu_policy_slot *slot = &pol->vcpus[i].slot;
	CpuPolicyVcpu *info = g_new0(CpuPolicyVcpu, 1);
	struct cpupolicy_verdict verdict;
	struct cpupolicy_view view;

	cpupolicy_view(pol->lib, i, &view);
	cpupolicy_last_verdict(pol->lib, i, &verdict, &info->denied);
	info->cpu_index = i;
	info->enabled = view.enabled;
	info->wanted = view.enabled && view.wanted;
	info->ejected = view.ejected;
	info->visible = slot->enabled;
	info->acknowledged = slot->enabled && slot->acked;
	info->online = cpu_policy_power_is_on(pol, i);
	if (verdict.reason != CPUPOLICY_REASON_NONE) {
		info->has_verdict = true;
		info->verdict = verdict.psci;
		info->reason = g_strdup(cpupolicy_reason_name(verdict.reason));
	}
	return info;
}

static CpuPolicy *the_policy(Error **errp)
{
	CpuPolicy *pol = cpu_policy_active();

	if (!pol || !pol->lib) {
		error_setg(errp, "this machine has no CPU policy (-object cpupolicy, -machine cpu-policy=)");
		return NULL;
	}
	return pol;
}

CpuPolicyInfo *qmp_query_cpu_policy(Error **errp)
{
	CpuPolicy *pol = the_policy(errp);
	CpuPolicyInfo *info;

	if (!pol)
		return NULL;

	info = g_new0(CpuPolicyInfo, 1);
	info->link = link_to_qapi(cpupolicy_link(pol->lib));
	info->link_reason = g_strdup(cpupolicy_link_reason(pol->lib));
	info->means = pol->means == CPUPOLICY_MEANS_NONE ? CPU_POLICY_MEANS_NONE : CPU_POLICY_MEANS_PSCI;
	cpupolicy_generation(pol->lib, &info->epoch, &info->generation);
	info->confirmed = cpupolicy_confirmed(pol->lib);
	for (uint32_t i = pol->possible; i-- > 0;)
		QAPI_LIST_PREPEND(info->vcpus, vcpu_info(pol, i));
	return info;
}

void cpu_policy_qmp_changed(CpuPolicy *pol)
{
	uint32_t epoch, generation, enabled = 0, online = 0;

	if (!pol->settled)
		return;
	for (uint32_t i = 0; i < pol->possible; i++) {
		enabled += pol->vcpus[i].slot.enabled;
		online += cpu_policy_power_is_on(pol, i);
	}
	cpupolicy_generation(pol->lib, &epoch, &generation);
	qapi_event_send_cpu_policy_changed(link_to_qapi(cpupolicy_link(pol->lib)), epoch, generation, enabled, online);
}

/* ---- cpu-policy-set ---- */

static bool may_switch(CpuPolicy *pol, Error **errp)
{
	if (!pol->ged) {
		error_setg(errp, "the guest cannot be notified: it has no ACPI (device-tree boot)");
		return false;
	}
	if (cpupolicy_link(pol->lib) == CPUPOLICY_LINK_LOCAL)
		return true;
	if (!pol->break_glass) {
		error_setg(errp, "the policy daemon switches this VM's vCPUs; cpu-policy-set needs 'standalone', or "
				 "'break-glass' and no daemon");
		return false;
	}
	if (cpupolicy_link(pol->lib) != CPUPOLICY_LINK_CONNECTING) {
		error_setg(errp, "the policy daemon is there: it switches this VM's vCPUs");
		return false;
	}
	return true;
}

static bool *wish_by_list(CpuPolicy *pol, const uint32List *vcpus, Error **errp)
{
	g_autofree bool *wish = g_new0(bool, pol->possible);

	for (; vcpus; vcpus = vcpus->next) {
		if (vcpus->value >= pol->possible) {
			error_setg(errp, "there is no vCPU %" PRIu32 ": the last one possible is %" PRIu32,
				   vcpus->value, pol->possible - 1);
			return NULL;
		}
		wish[vcpus->value] = true;
	}
	if (!wish[0]) {
		error_setg(errp, "vCPU 0 cannot be taken away: 'vcpus' has to name it");
		return NULL;
	}
	return g_steal_pointer(&wish);
}

/* As the daemon does it: the lowest that is free comes first, the highest goes first. */
static bool *wish_by_count(CpuPolicy *pol, uint32_t count, Error **errp)
{
	g_autofree bool *wish = g_new0(bool, pol->possible);
	uint32_t n = 0;

	if (count < 1 || count > pol->possible) {
		error_setg(errp, "'count' is between 1 and the %" PRIu32 " vCPUs that are possible", pol->possible);
		return NULL;
	}
	for (uint32_t i = 0; i < pol->possible; i++) {
		struct cpupolicy_view view;

		cpupolicy_view(pol->lib, i, &view);
		wish[i] = view.enabled && view.wanted;
		n += wish[i];
	}
	for (uint32_t i = 1; n < count; i++) {
		n += !wish[i];
		wish[i] = true;
	}
	for (uint32_t i = pol->possible - 1; n > count; i--) {
		n -= wish[i];
		wish[i] = false;
	}
	return g_steal_pointer(&wish);
}

static bool check_boot_vcpus(CpuPolicy *pol, const bool *wish, Error **errp)
{
	for (uint32_t i = 1; i < pol->possible && !pol->removable; i++) {
		if (pol->vcpus[i].slot.boot && !wish[i]) {
			error_setg(errp,
				   "vCPU %" PRIu32 " was enabled at start and 'removable-boot-vcpus' is off; start the "
				   "VM with it on, or with a smaller 'boot' count",
				   i);
			return false;
		}
	}
	return true;
}

void qmp_cpu_policy_set(bool has_count, uint32_t count, bool has_vcpus, uint32List *vcpus, Error **errp)
{
	CpuPolicy *pol = the_policy(errp);
	g_autofree bool *wish = NULL;
	int r;

	if (!pol)
		return;
	if (has_count == has_vcpus) {
		error_setg(errp, "give either 'count' or 'vcpus'");
		return;
	}
	if (!may_switch(pol, errp))
		return;
	wish = has_count ? wish_by_count(pol, count, errp) : wish_by_list(pol, vcpus, errp);
	if (!wish || !check_boot_vcpus(pol, wish, errp))
		return;

	/* From here on a break-glass is one: what the daemon last said is kept, and ours to change. */
	if (cpupolicy_link(pol->lib) != CPUPOLICY_LINK_LOCAL) {
		r = cpupolicy_local_begin(pol->lib);
		if (r < 0) {
			error_setg_errno(errp, -r, "cannot take over from the policy daemon");
			return;
		}
	}
	for (uint32_t i = 1; i < pol->possible; i++) {
		struct cpupolicy_view view;

		cpupolicy_view(pol->lib, i, &view);
		if (wish[i] != (view.enabled && view.wanted))
			cpupolicy_local_set(pol->lib, i, wish[i]);
	}
	cpu_policy_session_dispatch(pol);
}
