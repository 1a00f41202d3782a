/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the machine and libcpupolicy: start, the library's callbacks, run state and reset.
 *
 * Policy comes from the page, and what the guest can see follows it here and nowhere else: at start and at a reset it
 * is taken as it is, while the guest runs it is applied with notifications. Nothing is applied while this QEMU does not
 * own the guest (migration).
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/uuid.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "system/system.h"

#include "glue.h"

/* How long a start waits at a time before it looks whether QEMU is to end instead. */
#define WAIT_SLICE_MS 200
/* How long a guest that may boot alone gives a daemon that is there the time to say who boots. */
#define ALONE_WAIT_MS 1000
#define GOODBYE_MS    500

/* ---- what policy says ---- */

static void confirm(CpuPolicy *pol)
{
	cpupolicy_confirm(pol->lib);
	cpu_policy_qmp_changed(pol);
}

static void take_as_is(CpuPolicy *pol)
{
	struct cpupolicy_view view;

	for (uint32_t i = 0; i < pol->possible; i++) {
		cpupolicy_view(pol->lib, i, &view);
		cpu_policy_slot_reset(&pol->vcpus[i].slot, &view);
	}
}

/* A page that grants nothing but vCPU 0, to a guest that has more: to a VMM that does not own the guest, the daemon shows
 * such a one. */
static bool page_takes_all(CpuPolicy *pol)
{
	struct cpupolicy_view view;
	bool had = false;

	for (uint32_t i = 1; i < pol->possible; i++) {
		cpupolicy_view(pol->lib, i, &view);
		if (view.enabled)
			return false;
		had = had || pol->vcpus[i].slot.enabled;
	}
	return had;
}

void cpu_policy_session_apply(CpuPolicy *pol)
{
	uint32_t epoch, generation;
	bool raise = false;

	cpupolicy_generation(pol->lib, &epoch, &generation);
	if (!pol->settled || generation == 0)
		return;
	if (cpu_policy_session_run_state() == CPUPOLICY_RUN_INACTIVE)
		return;
	/* The guest has just come (back), and the daemon has not yet seen that it runs here: what it was granted is not
	 * taken from it because of the moments in between. */
	if (pol->arriving && page_takes_all(pol))
		return;
	pol->arriving = false;

	for (uint32_t i = 1; i < pol->possible; i++) {
		struct cpupolicy_view view;

		cpupolicy_view(pol->lib, i, &view);
		switch (cpu_policy_slot_apply(&pol->vcpus[i].slot, &view, cpu_policy_power_is_on(pol, i))) {
		case CPU_POLICY_EFFECT_RAISE:
			raise = true;
			break;
		case CPU_POLICY_EFFECT_GIVEN_BACK:
			cpupolicy_ejected(pol->lib, i, CPUPOLICY_EJECT_REQUESTED);
			break;
		case CPU_POLICY_EFFECT_NONE:
			break;
		}
	}
	if (raise)
		cpu_policy_regs_raise(pol);
	confirm(pol);
}

/* ---- the library's callbacks ---- */

static void on_policy_changed(void *opaque)
{
	cpu_policy_session_apply(opaque);
}

static void on_link_changed(void *opaque, enum cpupolicy_link link, const char *reason)
{
	CpuPolicy *pol = opaque;
	uint32_t epoch, generation;

	if (!pol->settled)
		return;
	cpupolicy_generation(pol->lib, &epoch, &generation);
	if (link == CPUPOLICY_LINK_REGISTERED || link == CPUPOLICY_LINK_LOCAL)
		info_report("cpu-policy: %s", reason);
	else
		warn_report("cpu-policy: %s; %s", reason,
			    generation == 0 ? "until then no vCPU but vCPU 0 is granted" : "the last policy holds");
	cpu_policy_qmp_changed(pol);
}

static void on_verdict(void *opaque, uint32_t caller, uint32_t target, const struct cpupolicy_verdict *verdict)
{
	cpu_policy_power_verdict(opaque, caller, target, verdict);
}

static enum cpupolicy_run_state on_get_state(void *opaque, struct cpupolicy_vcpu *vcpus, uint32_t n)
{
	CpuPolicy *pol = opaque;

	for (uint32_t i = 0; i < n; i++) {
		const struct cpu_policy_slot *slot = &pol->vcpus[i].slot;

		vcpus[i].flags = 0;
		if (cpu_policy_power_is_on(pol, i))
			vcpus[i].flags |= CPUPOLICY_VCPU_ONLINE;
		if (slot->enabled)
			vcpus[i].flags |= CPUPOLICY_VCPU_ENABLED;
		if (slot->enabled && slot->acked)
			vcpus[i].flags |= CPUPOLICY_VCPU_ACKED;
	}
	pol->reported = cpu_policy_session_run_state();
	return pol->reported;
}

static const struct cpupolicy_ops ops = {
	.policy_changed = on_policy_changed,
	.link_changed = on_link_changed,
	.verdict = on_verdict,
	.get_state = on_get_state,
};

/* ---- run state ---- */

enum cpupolicy_run_state cpu_policy_session_run_state(void)
{
	switch (runstate_get()) {
	case RUN_STATE_RUNNING:
		return CPUPOLICY_RUN_RUNNING;
	case RUN_STATE_INMIGRATE:
	case RUN_STATE_FINISH_MIGRATE:
	case RUN_STATE_POSTMIGRATE:
	case RUN_STATE_COLO:
		return CPUPOLICY_RUN_INACTIVE;
	default:
		return CPUPOLICY_RUN_PAUSED;
	}
}

static void report_run_state(CpuPolicy *pol)
{
	enum cpupolicy_run_state state = cpu_policy_session_run_state();

	if (!pol->started || state == pol->reported)
		return;
	if (state == CPUPOLICY_RUN_INACTIVE)
		pol->arriving = true;
	pol->reported = state;
	cpupolicy_run_state(pol->lib, state);
	if (state != CPUPOLICY_RUN_INACTIVE)
		cpu_policy_session_apply(pol);
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
	CpuPolicy *pol = opaque;

	if (!running) {
		cpu_policy_power_abandon(pol);
	} else {
		/* Migrated in from a QEMU without policy: nothing was loaded that could have started the session. */
		if (!pol->started)
			cpu_policy_session_start(pol, &error_fatal);
		pol->ran = true;
		cpu_policy_power_wake(pol);
		cpu_policy_regs_resume(pol);
	}
	report_run_state(pol);
}

/* Migration changes the state of a VM that was stopped before without telling the handlers above. */
static int migration_changed(NotifierWithReturn *notifier, MigrationEvent *event, Error **errp)
{
	report_run_state(container_of(notifier, CpuPolicy, migration_notifier));
	return 0;
}

/* Not called when a snapshot is loaded: that is not a reset to the guest. */
static void machine_reset(void *opaque)
{
	CpuPolicy *pol = opaque;
	bool by_guest = qatomic_xchg(&pol->guest_reset, false);

	pol->was_reset = true;
	if (!pol->settled || runstate_check(RUN_STATE_INMIGRATE))
		return;

	cpu_policy_power_abandon(pol);
	for (uint32_t i = 0; i < pol->possible; i++) {
		pol->vcpus[i].waits_for = -1;
		/* Its power is off now, whichever way it went. */
		if (pol->vcpus[i].slot.ejecting)
			cpu_policy_regs_ejected(pol, i);
	}
	if (pol->ran)
		cpupolicy_reset(pol->lib, by_guest ? CPUPOLICY_RESET_GUEST : CPUPOLICY_RESET_HOST);
	take_as_is(pol);
	cpu_policy_qmp_changed(pol);
}

/* ---- life ---- */

static void dispatch(void *opaque)
{
	CpuPolicy *pol = opaque;
	int r;

	report_run_state(pol);
	r = cpupolicy_dispatch(pol->lib);
	if (r < 0) {
		error_report("cpu-policy: %s; the last policy holds for good", strerror(-r));
		qemu_set_fd_handler(cpupolicy_get_fd(pol->lib), NULL, NULL, NULL);
	}
}

void cpu_policy_session_dispatch(CpuPolicy *pol)
{
	dispatch(pol);
}

static void make_library(CpuPolicy *pol)
{
	g_autofree uint64_t *mpidrs = g_new(uint64_t, pol->possible);
	g_autofree char *uuid_text = NULL, *name = NULL;
	QemuUUID uuid = qemu_uuid;
	struct cpupolicy_identity identity = {
		.possible = pol->possible,
		.boot = pol->proposed,
		.mpidrs = mpidrs,
		.flags = (pol->ged ? CPUPOLICY_REG_NOTIFY : 0) | (pol->removable ? CPUPOLICY_REG_BOOT_REMOVABLE : 0) |
			 (pol->realm ? CPUPOLICY_REG_REALM : 0) | (uint32_t)pol->means << CPUPOLICY_REG_MEANS_SHIFT,
	};
	int r;

	if (pol->standalone) {
		/* Nobody will ask for it. */
		qemu_uuid_generate(&uuid);
	} else if (!qemu_uuid_set || qemu_uuid_is_null(&uuid)) {
		error_report("cpu-policy: the policy daemon knows a VM by its UUID: give it one with -uuid");
		exit(EXIT_FAILURE);
	}
	memcpy(identity.uuid, uuid.data, sizeof(identity.uuid));
	/* Not the bare UUID: no name may pass for one. */
	uuid_text = qemu_uuid_unparse_strdup(&uuid);
	name = g_strconcat("vm-", uuid_text, NULL);
	identity.name = qemu_get_vm_name() ?: name;
	for (uint32_t i = 0; i < pol->possible; i++)
		mpidrs[i] = pol->machine->possible_cpus->cpus[i].arch_id;

	r = cpupolicy_new(&pol->lib, &identity, &ops, pol);
	if (r < 0) {
		error_report("cpu-policy: no policy for a VM of the name '%s' (1 to 255 bytes of UTF-8) with %" PRIu32
			     " vCPUs (1 to %u): %s",
			     identity.name, identity.possible, CPUPOLICY_MAX_VCPUS, strerror(-r));
		exit(EXIT_FAILURE);
	}
	qemu_set_fd_handler(cpupolicy_get_fd(pol->lib), dispatch, NULL, pol);
}

int cpu_policy_session_start(CpuPolicy *pol, Error **errp)
{
	int r, fd = pol->fd;

	if (pol->standalone) {
		r = cpupolicy_start_local(pol->lib);
	} else if (pol->path) {
		r = cpupolicy_start_path(pol->lib, pol->path);
	} else {
		pol->fd = -1;
		r = cpupolicy_start_fd(pol->lib, fd);
	}
	if (r < 0) {
		error_setg_errno(errp, -r, "cpu-policy: cannot start the session with the policy daemon");
		return r;
	}
	pol->started = true;
	return 0;
}

static const char *daemon_name(const CpuPolicy *pol)
{
	return pol->path ?: "the other end of its socket";
}

static void refuse(CpuPolicy *pol)
{
	error_report("cpu-policy: %s refused this VM: %s", daemon_name(pol), cpupolicy_link_reason(pol->lib));
	exit(EXIT_FAILURE);
}

static void wait_for_daemon(CpuPolicy *pol)
{
	bool alone = pol->on_missing == CPU_POLICY_ON_MISSING_BOOT_ALONE;
	bool said = false;

	for (;;) {
		int r = cpupolicy_wait(pol->lib, alone ? ALONE_WAIT_MS : WAIT_SLICE_MS);

		if (r == 0)
			return;
		if (r == -EACCES)
			refuse(pol);
		if (r != -ETIMEDOUT) {
			error_report("cpu-policy: %s", strerror(-r));
			exit(EXIT_FAILURE);
		}
		if (alone) {
			warn_report("cpu-policy: no policy daemon at %s: vCPU 0 boots alone", daemon_name(pol));
			return;
		}
		/* The signal handlers are in place by now, and their main loop is not. */
		if (qemu_shutdown_requested_get() != SHUTDOWN_CAUSE_NONE)
			exit(EXIT_SUCCESS);
		if (!said)
			warn_report("cpu-policy: waiting for the policy daemon at %s (%s)", daemon_name(pol),
				    cpupolicy_link_reason(pol->lib));
		said = true;
	}
}

void cpu_policy_start(CpuPolicy *pol)
{
	if (!pol)
		return;

	if (!cpu_policy_power_is_ours()) {
		error_report(
			"cpu-policy: the firmware of this machine powers its CPUs (secure=on): policy cannot hold");
		exit(EXIT_FAILURE);
	}
	make_library(pol);
	if (runstate_check(RUN_STATE_INMIGRATE)) {
		/* What arrives brings the session's token with it. Until then, and without it, nothing is granted. */
		take_as_is(pol);
		pol->settled = true;
		return;
	}

	cpu_policy_session_start(pol, &error_fatal);
	wait_for_daemon(pol);
	take_as_is(pol);
	for (uint32_t i = 0; i < pol->possible; i++)
		pol->vcpus[i].slot.boot = pol->vcpus[i].slot.enabled;
	pol->settled = true;
	confirm(pol);
	/* The registration was before all this. */
	cpupolicy_resync(pol->lib);
}

static void at_exit(Notifier *notifier, void *data)
{
	cpu_policy_session_end(container_of(notifier, CpuPolicy, exit_notifier));
}

void cpu_policy_session_end(CpuPolicy *pol)
{
	/* A target that never ran has nothing to say about the VM's end; the daemon sees it go. */
	if (pol->started && !runstate_check(RUN_STATE_INMIGRATE))
		cpupolicy_unregister(pol->lib,
				     runstate_check(RUN_STATE_POSTMIGRATE) ? CPUPOLICY_UNREGISTER_MIGRATED
									   : CPUPOLICY_UNREGISTER_SHUTDOWN,
				     GOODBYE_MS);
	pol->started = false;
}

void cpu_policy_session_init(CpuPolicy *pol)
{
	qemu_register_reset_nosnapshotload(machine_reset, pol);
	qemu_add_vm_change_state_handler(vm_state_changed, pol);
	migration_add_notifier(&pol->migration_notifier, migration_changed);
	pol->exit_notifier.notify = at_exit;
	qemu_add_exit_notifier(&pol->exit_notifier);
}
