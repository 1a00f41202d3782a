/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The host with a real store, through real sessions: who may be which VM, what is durable when, who holds it after. */

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/util.h"
#include "tests/unit/rig.h"

#define DEFAULT(members) "{\"classes\": {\"default\": {" members "}}}"

static struct rig rig;

static void setup(void)
{
	rig_open(&rig);
}

static void start(void)
{
	rig_start(&rig);
}

static void restart(void)
{
	rig_stop(&rig);
	rig_start(&rig);
}

static void teardown(void)
{
	rig_close(&rig);
}

static const struct vm *core(const char *name)
{
	const struct host_vm *vm = host_find(rig.host, name);

	return vm ? host_vm_core(vm) : NULL;
}

/* A process that does nothing, to be a VMM's. */
static pid_t make_process(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

static void end_process(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void resize(const char *vm, uint32_t count)
{
	struct client c;

	client_resize(&c, &rig, vm, count);
	rig_until(&rig, c.calls == 1);
	ck_assert_msg(c.error == HOST_OK, "%s", c.message);
}

/* The guest acknowledges what the page grants. */
static void plug(struct vmm *v, uint32_t vcpu)
{
	rig_until(&rig, vmm_words(v, CPUPOLICY_WORD_ENABLED) & 1u << vcpu);
	vmm_confirm(v);
	vmm_event(v, CPUPOLICY_OST, cpupolicy_ost, .vcpu = vcpu, .event = 1, .status = 0);
}

/* ---- registration ---- */

START_TEST(registration)
{
	struct vmm v;
	const struct vm *vm;

	start();
	vmm_connect(&v, &rig, 1);
	vmm_hello(&v);
	ck_assert_ptr_null(core("vm1"));
	vmm_register(&v);
	ck_assert(v.end->registered);
	ck_assert_uint_eq(v.enabled, 4);
	ck_assert_uint_eq(v.epoch, 1);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0xf);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_WANTED), 0xf);
	ck_assert_uint_eq(cpupolicy_page_epoch(cpupolicy_page_load_head(v.page)), 1);
	ck_assert_uint_ge(vmm_generation(&v), 1);
	ck_assert_uint_eq(rig.added, 1);
	ck_assert_uint_eq(host_count(rig.host), 1);
	vm = core("vm1");
	ck_assert_ptr_eq(vm, core("01010101-0101-0101-0101-010101010101"));
	ck_assert_int_eq(vm->link, VM_CONNECTED);
	ck_assert_uint_eq(vm->confirmed, 0);
	vmm_confirm(&v);
	ck_assert_uint_eq(vm->confirmed, vmm_generation(&v));
	vmm_close(&v);
}
END_TEST

/* What was answered is on disk: nothing is asked of the daemon that dies. */
START_TEST(registration_is_durable_when_answered)
{
	struct vmm v, again;

	start();
	vmm_start(&v, &rig, 1);
	restart();
	ck_assert_int_eq(core("vm1")->link, VM_DISCONNECTED);
	ck_assert_uint_eq(core("vm1")->possible, 6);
	vmm_reconnect(&again, &v);
	vmm_hello(&again);
	vmm_register(&again);
	ck_assert_uint_eq(again.epoch, 2);
	ck_assert_mem_eq(again.token, v.token, sizeof(v.token));
	ck_assert_uint_eq(vmm_words(&again, CPUPOLICY_WORD_ENABLED), 0xf);
	vmm_close(&again);
	vmm_close(&v);
}
END_TEST

START_TEST(token_replaces_the_live_session)
{
	struct vmm v, thief, heir;

	start();
	vmm_start(&v, &rig, 1);
	vmm_connect(&thief, &rig, 1);
	vmm_hello(&thief);
	vmm_send_register(&thief);
	vmm_expect_error(&thief, CPUPOLICY_ERROR_IDENTITY);
	memset(thief.token, 7, sizeof(thief.token));
	vmm_send_register(&thief);
	vmm_expect_error(&thief, CPUPOLICY_ERROR_IDENTITY);
	ck_assert_int_eq(vmm_ask(&v, 1).psci, CPUPOLICY_PSCI_SUCCESS);

	vmm_reconnect(&heir, &v);
	vmm_hello(&heir);
	vmm_register(&heir);
	vmm_expect_end(&v);
	ck_assert_uint_eq(heir.epoch, 2);
	ck_assert_uint_eq(vmm_words(&heir, CPUPOLICY_WORD_ENABLED), 0xf);
	/* the page that is still mapped on the other side grants nothing any more */
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED | CPUPOLICY_WORD_VERDICT_MASK), 0);
	ck_assert_int_eq(vmm_ask(&heir, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	vmm_close(&thief);
	vmm_close(&v);
	vmm_close(&heir);
}
END_TEST

/* The kernel knows that the VMM has gone before the loop does. */
START_TEST(successor_of_a_vmm_that_just_ended)
{
	pid_t pid = make_process();
	struct vmm v, next;

	start();
	vmm_connect_as(&v, &rig, 1, 1000, pid);
	vmm_hello(&v);
	vmm_register(&v);
	vmm_connect(&next, &rig, 1);
	vmm_hello(&next);
	end_process(pid);
	vmm_send_register(&next);
	vmm_close(&v);
	vmm_receive(&next);
	ck_assert_msg(!(next.header.flags & CPUPOLICY_HDR_ERROR), "%s", next.reply.error.message);
	vmm_close(&next);
}
END_TEST

START_TEST(another_vm_s_identity)
{
	struct vmm v, other;

	start();
	vmm_start(&v, &rig, 1);
	vmm_connect(&other, &rig, 2);
	vmm_hello(&other);
	strcpy(other.name, "vm1");
	vmm_send_register(&other);
	vmm_expect_error(&other, CPUPOLICY_ERROR_IDENTITY);
	vmm_close(&other);

	/* the right token does not do for another user, another size, another name */
	vmm_connect_as(&other, &rig, 1, 1001, getpid());
	memcpy(other.token, v.token, sizeof(v.token));
	vmm_hello(&other);
	vmm_send_register(&other);
	vmm_expect_error(&other, CPUPOLICY_ERROR_IDENTITY);
	vmm_close(&other);
	vmm_reconnect(&other, &v);
	vmm_hello(&other);
	other.possible = 5;
	vmm_send_register(&other);
	vmm_expect_error(&other, CPUPOLICY_ERROR_IDENTITY);
	other.possible = 6;
	strcpy(other.name, "vmx");
	vmm_send_register(&other);
	vmm_expect_error(&other, CPUPOLICY_ERROR_IDENTITY);
	ck_assert_int_eq(vmm_ask(&v, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	ck_assert_uint_eq(host_count(rig.host), 1);
	vmm_close(&other);
	vmm_close(&v);
}
END_TEST

START_TEST(as_many_vms_as_configured)
{
	enum { VMS = 40 };
	static struct vmm vms[VMS];
	struct vmm more;
	const struct host_vm *vm = NULL;
	char previous[64] = "";

	rig.config->max_vms = VMS;
	start();
	for (unsigned i = 0; i < VMS; i++)
		vmm_start(&vms[i], &rig, (uint8_t)(1 + i * 7 % VMS)); /* in no order */
	vmm_connect(&more, &rig, 200);
	vmm_hello(&more);
	vmm_send_register(&more);
	vmm_expect_error(&more, CPUPOLICY_ERROR_LIMIT);
	ck_assert_uint_eq(host_count(rig.host), VMS);
	for (unsigned i = 0; i < VMS; i++) {
		vm = host_next(rig.host, vm);
		ck_assert_ptr_nonnull(vm);
		ck_assert_str_gt(host_vm_uuid(vm), previous);
		strcpy(previous, host_vm_uuid(vm));
		ck_assert_ptr_eq(host_find(rig.host, host_vm_name(vm)), vm);
		ck_assert_ptr_eq(host_find(rig.host, host_vm_uuid(vm)), vm);
	}
	ck_assert_ptr_null(host_next(rig.host, vm));
	/* room again */
	vmm_event(&vms[3], CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_register(&more);
	for (unsigned i = 0; i < VMS; i++)
		vmm_close(&vms[i]);
	vmm_close(&more);
}
END_TEST

START_TEST(level_that_asks_needs_a_vmm_that_asks)
{
	struct vmm v;

	rig_policy(&rig, DEFAULT("\"verdicts\": \"ask\""));
	start();
	vmm_connect(&v, &rig, 1);
	vmm_event(&v, CPUPOLICY_HELLO, cpupolicy_hello, .features = CPUPOLICY_F_INCOMING);
	vmm_send_register(&v);
	vmm_expect_error(&v, CPUPOLICY_ERROR_UNSUPPORTED);
	vmm_close(&v);
	vmm_start(&v, &rig, 1);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_VERDICT_ASK << CPUPOLICY_WORD_VERDICT_SHIFT), 0xf);
	vmm_close(&v);
}
END_TEST

START_TEST(registration_on_a_full_disk)
{
	struct vmm v, other;

	start();
	vmm_start(&other, &rig, 2);
	rig_fill_disk(true);
	vmm_connect(&v, &rig, 1);
	vmm_hello(&v);
	vmm_send_register(&v);
	vmm_expect_error(&v, CPUPOLICY_ERROR_STORAGE);
	ck_assert_ptr_null(core("vm1"));
	ck_assert_uint_eq(rig.added, 1);
	ck_assert_int_eq(vmm_ask(&other, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	rig_fill_disk(false);
	vmm_register(&v); /* on the same connection */
	ck_assert_uint_eq(v.enabled, 4);
	ck_assert_uint_eq(rig.added, 2);
	vmm_close(&v);
	vmm_close(&other);
}
END_TEST

/* ---- verdicts ---- */

START_TEST(verdicts_and_their_record)
{
	struct cpupolicy_ask ask = {.vcpu = 5, .function = CPUPOLICY_PSCI_CPU_ON_64};
	struct vmm v;

	start();
	vmm_start(&v, &rig, 1);
	ck_assert_uint_eq(vmm_ask(&v, 1).reason, CPUPOLICY_REASON_GRANTED);
	ck_assert_uint_eq(vmm_ask(&v, 4).reason, CPUPOLICY_REASON_NOT_ENABLED);
	rig_until(&rig, rig.denied == 1);
	ck_assert_uint_eq(rig.denials[0].vcpu, 4);
	ck_assert_uint_eq(rig.denials[0].verdict.would, CPUPOLICY_REASON_NOT_ENABLED);
	/* gathered per turn and vCPU */
	rig.changed = 0;
	for (int i = 0; i < 30; i++)
		vmm_send(&v, CPUPOLICY_ASK, 0, &ask, sizeof(ask));
	for (int i = 0; i < 30; i++)
		vmm_receive(&v);
	rig_until(&rig, rig.denied > 1);
	ck_assert_uint_eq(rig.denied, 2);
	ck_assert_uint_eq(rig.denials[1].vcpu, 5);
	ck_assert_uint_eq(rig.denials[1].count, 30);
	ck_assert_uint_eq(rig.changed, 1);
	ck_assert_uint_eq(core("vm1")->denied, 31);
	/* what the page denied by itself is recorded as well */
	vmm_event(&v, CPUPOLICY_POWER, cpupolicy_power, .vcpu = 4, .event = CPUPOLICY_POWER_DENIED,
		  .reason = CPUPOLICY_REASON_NOT_ENABLED, .count = 9);
	rig_until(&rig, rig.denied == 3);
	ck_assert_uint_eq(rig.denials[2].count, 9);
	ck_assert_uint_eq(core("vm1")->denied, 40);
	vmm_close(&v);
}
END_TEST

START_TEST(rate_of_cpu_on)
{
	struct vmm v;

	rig_policy(&rig, DEFAULT("\"cpu_on\": {\"per_second\": 1, \"burst\": 2}"));
	start();
	vmm_start(&v, &rig, 1);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_VERDICT_ASK << CPUPOLICY_WORD_VERDICT_SHIFT), 0xf);
	ck_assert_uint_eq(vmm_ask(&v, 1).reason, CPUPOLICY_REASON_GRANTED);
	ck_assert_uint_eq(vmm_ask(&v, 2).reason, CPUPOLICY_REASON_GRANTED);
	ck_assert_uint_eq(vmm_ask(&v, 3).reason, CPUPOLICY_REASON_RATE);
	vmm_close(&v);
}
END_TEST

START_TEST(observe_records_and_allows)
{
	struct cpupolicy_verdict verdict;
	struct vmm v;

	rig_policy(&rig, DEFAULT("\"observe\": true"));
	start();
	vmm_start(&v, &rig, 1);
	verdict = vmm_ask(&v, 5);
	ck_assert_int_eq(verdict.psci, CPUPOLICY_PSCI_SUCCESS);
	ck_assert_uint_eq(verdict.reason, CPUPOLICY_REASON_OBSERVED);
	rig_until(&rig, rig.denied == 1);
	ck_assert_int_eq(rig.denials[0].verdict.psci, CPUPOLICY_PSCI_SUCCESS);
	ck_assert_uint_eq(rig.denials[0].verdict.would, CPUPOLICY_REASON_NOT_ENABLED);
	/* without an ask, the power-on's own report is the trace */
	vmm_event(&v, CPUPOLICY_POWER, cpupolicy_power, .vcpu = 4, .event = CPUPOLICY_POWER_ON,
		  .reason = CPUPOLICY_REASON_OBSERVED, .count = 1);
	rig_until(&rig, rig.denied == 2);
	ck_assert_uint_eq(rig.denials[1].vcpu, 4);
	vmm_close(&v);
}
END_TEST

/* ---- resize ---- */

START_TEST(growth)
{
	struct client c;
	struct vmm v;

	start();
	vmm_start(&v, &rig, 1);
	client_resize(&c, &rig, "vm1", 5);
	ck_assert_uint_eq(c.calls, 0); /* not before the disk has it */
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0xf);
	ck_assert_uint_eq(rig.job_new, 0);
	rig_until(&rig, c.calls == 1);
	ck_assert_int_eq(c.error, HOST_OK);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0x1f); /* the page before the reply */
	ck_assert_uint_eq(rig.job_new, 1);
	ck_assert_uint_eq(rig.last_new.id, c.job);
	ck_assert_uint_eq(rig.last_new.uid, 500);
	ck_assert_uint_eq(rig.last_new.from, 4);
	ck_assert_uint_eq(rig.last_new.to, 5);
	ck_assert_ptr_eq(host_find_job(rig.host, c.job), host_find(rig.host, "vm1"));
	ck_assert_uint_eq(rig.job_removed, 0);
	plug(&v, 4);
	rig_until(&rig, rig.job_removed == 1);
	ck_assert_int_eq(rig.last_removed.result, JOB_DONE);
	ck_assert_uint_eq(rig.last_removed.uid, 500);
	ck_assert_ptr_null(host_find_job(rig.host, c.job));
	ck_assert_uint_eq(host_vm_desired_uid(host_find(rig.host, "vm1")), 500);
	ck_assert_uint_eq(vmm_ask(&v, 4).reason, CPUPOLICY_REASON_GRANTED);
	vmm_close(&v);
}
END_TEST

START_TEST(accepted_survives)
{
	struct client c;
	struct vmm v, again;

	start();
	vmm_start(&v, &rig, 1);
	client_resize(&c, &rig, "vm1", 5);
	rig_until(&rig, c.calls == 1);
	restart();
	ck_assert_uint_eq(core("vm1")->desired, 5);
	ck_assert_uint_eq(host_vm_desired_uid(host_find(rig.host, "vm1")), 500);
	ck_assert_uint_eq(core("vm1")->job.id, c.job);
	ck_assert_ptr_nonnull(host_find_job(rig.host, c.job));
	vmm_reconnect(&again, &v);
	for (int i = 0; i < 4; i++)
		again.vcpus[i] |= CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED;
	vmm_hello(&again);
	vmm_register(&again);
	ck_assert_uint_eq(vmm_words(&again, CPUPOLICY_WORD_ENABLED), 0x1f);
	ck_assert_uint_eq(rig.job_removed, 0);
	plug(&again, 4);
	rig_until(&rig, rig.job_removed == 1);
	ck_assert_uint_eq(rig.last_removed.id, c.job);
	ck_assert_int_eq(rig.last_removed.result, JOB_DONE);
	/* and its number is not given again */
	client_resize(&c, &rig, "vm1", 6);
	rig_until(&rig, c.calls == 1);
	ck_assert_uint_gt(c.job, rig.last_removed.id);
	vmm_close(&again);
	vmm_close(&v);
}
END_TEST

START_TEST(superseded)
{
	struct client first, second;
	struct vmm v;

	start();
	vmm_start(&v, &rig, 1);
	client_resize(&first, &rig, "vm1", 5);
	client_resize(&second, &rig, "vm1", 6);
	ck_assert_uint_eq(rig.job_removed, 0); /* nobody knows of the first yet */
	rig_until(&rig, second.calls == 1);
	ck_assert_uint_eq(first.calls, 1);
	ck_assert_int_eq(first.error, HOST_OK);
	ck_assert_int_eq(second.error, HOST_OK);
	ck_assert_uint_eq(rig.job_new, 2);
	ck_assert_uint_eq(rig.job_removed, 1);
	ck_assert_uint_eq(rig.last_removed.id, first.job);
	ck_assert_int_eq(rig.last_removed.result, JOB_SUPERSEDED);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0x3f);
	vmm_close(&v);
}
END_TEST

START_TEST(refused_resizes)
{
	struct client c;
	struct vmm v;

	rig_policy(&rig, DEFAULT("\"limit\": 5"));
	start();
	vmm_connect(&v, &rig, 1);
	v.flags = CPUPOLICY_REG_NOTIFY;
	vmm_hello(&v);
	vmm_register(&v);
	client_resize(&c, &rig, "nobody", 5);
	ck_assert_int_eq(c.error, HOST_NO_SUCH_VM);
	ck_assert_ptr_nonnull(strstr(c.message, "nobody"));
	client_resize(&c, &rig, "vm1", 7);
	ck_assert_int_eq(c.error, HOST_OUT_OF_RANGE);
	ck_assert_ptr_nonnull(strstr(c.message, "6 possible"));
	client_resize(&c, &rig, "vm1", 0);
	ck_assert_int_eq(c.error, HOST_OUT_OF_RANGE);
	client_resize(&c, &rig, "vm1", 6);
	ck_assert_int_eq(c.error, HOST_SLA_LIMIT);
	ck_assert_ptr_nonnull(strstr(c.message, "5"));
	client_resize(&c, &rig, "vm1", 3);
	ck_assert_int_eq(c.error, HOST_BOOT_VCPU);
	ck_assert_ptr_nonnull(strstr(c.message, "boot"));
	vmm_run_state(&v, CPUPOLICY_RUN_INACTIVE);
	client_resize(&c, &rig, "vm1", 5);
	ck_assert_int_eq(c.error, HOST_MIGRATING);
	vmm_close(&v);
	vmm_connect(&v, &rig, 2);
	v.flags = 0;
	vmm_hello(&v);
	vmm_register(&v);
	client_resize(&c, &rig, "vm2", 5);
	ck_assert_int_eq(c.error, HOST_NOT_NOTIFIABLE);
	ck_assert_uint_eq(rig.job_new, 0);
	vmm_close(&v);
}
END_TEST

START_TEST(resize_on_a_full_disk)
{
	struct client c;
	struct vmm v, again;

	start();
	vmm_start(&v, &rig, 1);
	rig_fill_disk(true);
	client_resize(&c, &rig, "vm1", 5);
	rig_until(&rig, c.calls == 1);
	ck_assert_int_eq(c.error, HOST_STORAGE);
	ck_assert_str_ne(c.message, "");
	/* as if never asked */
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0xf);
	ck_assert_uint_eq(core("vm1")->desired, 4);
	ck_assert_uint_eq(host_vm_desired_uid(host_find(rig.host, "vm1")), (uint32_t)-1);
	ck_assert_uint_eq(rig.job_new, 0);
	ck_assert_uint_eq(rig.job_removed, 0);
	ck_assert_int_eq(vmm_ask(&v, 4).psci, CPUPOLICY_PSCI_DENIED);
	/* room again: at once for who asks, whatever the back-off, which is 16 s and more by now */
	for (int i = 0; i < 5; i++) {
		client_resize(&c, &rig, "vm1", 5);
		rig_until(&rig, c.calls == 1);
		ck_assert_int_eq(c.error, HOST_STORAGE);
	}
	rig_fill_disk(false);
	client_resize(&c, &rig, "vm1", 6);
	rig_until(&rig, c.calls == 1);
	ck_assert_int_eq(c.error, HOST_OK);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0x3f);
	restart();
	vmm_reconnect(&again, &v);
	vmm_hello(&again);
	vmm_register(&again);
	ck_assert_uint_eq(vmm_words(&again, CPUPOLICY_WORD_ENABLED), 0x3f);
	vmm_close(&again);
	vmm_close(&v);
}
END_TEST

/* What the guest gave back stays given back, and is recorded as soon as the disk takes it. */
START_TEST(reductions_hold_on_a_full_disk)
{
	struct client c;
	struct vmm v, again;

	start();
	vmm_start(&v, &rig, 1);
	rig_fill_disk(true);
	vmm_event(&v, CPUPOLICY_EJECT, cpupolicy_eject, .vcpu = 3, .cause = CPUPOLICY_EJECT_GUEST);
	rig_until(&rig, vmm_words(&v, CPUPOLICY_WORD_ENABLED) == 0x7);
	ck_assert_uint_eq(vmm_ask(&v, 3).reason, CPUPOLICY_REASON_EJECTED);
	/* by the time that this has failed, the write of the ejection has as well */
	client_resize(&c, &rig, "vm1", 6);
	rig_until(&rig, c.calls == 1);
	ck_assert_int_eq(c.error, HOST_STORAGE);
	ck_assert_uint_lt(core("vm1")->stored, core("vm1")->revision);
	rig_fill_disk(false);
	rig_until(&rig, core("vm1")->stored == core("vm1")->revision); /* the retry, by its timer */
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0x7);
	restart();
	ck_assert_uint_eq(core("vm1")->desired, 3);
	vmm_reconnect(&again, &v);
	vmm_hello(&again);
	vmm_register(&again);
	ck_assert_uint_eq(vmm_words(&again, CPUPOLICY_WORD_ENABLED), 0x7);
	vmm_close(&again);
	vmm_close(&v);
}
END_TEST

START_TEST(deadline)
{
	struct vmm v;

	rig_policy(&rig, DEFAULT("\"job_timeout_seconds\": 1"));
	start();
	vmm_start(&v, &rig, 1);
	resize("vm1", 5);
	rig_until(&rig, rig.job_removed == 1);
	ck_assert_int_eq(rig.last_removed.result, JOB_TIMEOUT);
	/* it stands while the VM is paused */
	resize("vm1", 6);
	vmm_run_state(&v, CPUPOLICY_RUN_PAUSED);
	ck_assert_uint_eq(vm_deadline(core("vm1")), UINT64_MAX);
	vmm_run_state(&v, CPUPOLICY_RUN_RUNNING);
	rig_until(&rig, rig.job_removed == 2);
	ck_assert_int_eq(rig.last_removed.result, JOB_TIMEOUT);
	vmm_close(&v);
}
END_TEST

/* ---- the end of a VMM ---- */

START_TEST(lost_and_ended)
{
	pid_t pid = make_process();
	struct vmm v;

	start();
	vmm_connect_as(&v, &rig, 1, 1000, pid);
	vmm_hello(&v);
	vmm_register(&v);
	vmm_close(&v);
	rig_until(&rig, !v.end->session);
	ck_assert_int_eq(core("vm1")->link, VM_DISCONNECTED);
	ck_assert_uint_eq(rig.removed, 0);
	end_process(pid);
	rig_until(&rig, !core("vm1"));
	ck_assert_uint_eq(rig.removed, 1);
	restart();
	ck_assert_uint_eq(host_count(rig.host), 0);
}
END_TEST

START_TEST(what_an_operator_asked_for_outlives_the_vm)
{
	struct client c;
	struct vmm v;

	start();
	vmm_start(&v, &rig, 1);
	client_forget(&c, &rig, "vm1");
	ck_assert_int_eq(c.error, HOST_VM_RUNNING);
	resize("vm1", 5);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_close(&v);
	ck_assert_int_eq(core("vm1")->link, VM_STOPPED);
	ck_assert_int_eq(rig.last_removed.result, JOB_DISCONNECTED);
	rig_until(&rig, core("vm1")->stored == core("vm1")->revision);
	restart();
	ck_assert_int_eq(core("vm1")->link, VM_STOPPED);
	/* its next start, under another name and larger */
	vmm_connect(&v, &rig, 1);
	strcpy(v.name, "renamed");
	v.possible = 8;
	vmm_hello(&v);
	vmm_register(&v);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0x1f);
	ck_assert_ptr_null(core("vm1"));
	ck_assert_uint_eq(core("renamed")->possible, 8);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_close(&v);
	client_forget(&c, &rig, "renamed");
	rig_until(&rig, c.calls == 1);
	ck_assert_int_eq(c.error, HOST_OK);
	ck_assert_uint_eq(host_count(rig.host), 0);
	restart();
	ck_assert_uint_eq(host_count(rig.host), 0);
}
END_TEST

/* A stopped VM takes a count for its next start. */
START_TEST(resize_of_a_stopped_vm)
{
	struct vmm v;

	start();
	vmm_start(&v, &rig, 1);
	resize("vm1", 5);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_close(&v);
	resize("vm1", 2);
	vmm_start(&v, &rig, 1);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0x3);
	vmm_close(&v);
}
END_TEST

/* A write that waits behind another must not bring the record back when it has been deleted. */
START_TEST(forgotten_with_writes_under_way)
{
	struct client first, second, forget;
	struct vmm v;

	start();
	vmm_start(&v, &rig, 1);
	resize("vm1", 5);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_close(&v);
	client_resize(&first, &rig, "vm1", 3);
	client_resize(&second, &rig, "vm1", 2);
	client_forget(&forget, &rig, "vm1");
	rig_until(&rig, first.calls && second.calls && forget.calls);
	ck_assert_int_eq(forget.error, HOST_OK);
	ck_assert_int_eq(second.error, HOST_NO_SUCH_VM);
	client_resize(&first, &rig, "vm1", 3);
	ck_assert_int_eq(first.error, HOST_NO_SUCH_VM);
	restart();
	ck_assert_uint_eq(host_count(rig.host), 0);
}
END_TEST

START_TEST(vmm_that_ended_while_the_daemon_was_away)
{
	pid_t pid = make_process(), other_pid = make_process();
	struct vmm v, other;

	start();
	vmm_connect_as(&v, &rig, 1, 1000, pid);
	vmm_hello(&v);
	vmm_register(&v);
	vmm_connect_as(&other, &rig, 2, 1000, other_pid);
	vmm_hello(&other);
	vmm_register(&other);
	rig_stop(&rig);
	end_process(pid);
	rig_start(&rig);
	ck_assert_ptr_null(core("vm1"));
	ck_assert_int_eq(core("vm2")->link, VM_DISCONNECTED);
	end_process(other_pid); /* watched by the new daemon as by the old */
	rig_until(&rig, !core("vm2"));
	vmm_close(&v);
	vmm_close(&other);
}
END_TEST

/* ---- migration on this host ---- */

static void join(struct vmm *target, const struct vmm *source)
{
	vmm_reconnect(target, source);
	target->flags |= CPUPOLICY_REG_INCOMING;
	target->run_state = CPUPOLICY_RUN_INACTIVE;
	vmm_hello(target);
	vmm_register(target);
}

static void check_silent(struct vmm *v)
{
	ck_assert_uint_eq(vmm_words(v, CPUPOLICY_WORD_ENABLED | CPUPOLICY_WORD_VERDICT_MASK), 0);
	ck_assert_uint_eq(vmm_ask(v, 1).reason, CPUPOLICY_REASON_INACTIVE);
}

START_TEST(migration)
{
	struct vmm source, target;

	start();
	vmm_start(&source, &rig, 1);
	resize("vm1", 5);
	plug(&source, 4);
	join(&target, &source);
	ck_assert_uint_eq(target.enabled, 0);
	check_silent(&target);
	ck_assert(host_vm_has_incoming(host_find(rig.host, "vm1")));
	ck_assert_uint_eq(host_count(rig.host), 1);
	ck_assert_int_eq(vmm_ask(&source, 4).psci, CPUPOLICY_PSCI_SUCCESS);
	/* the state arrives: two vCPUs run */
	target.vcpus[1] = CPUPOLICY_VCPU_ONLINE;
	vmm_power(&target, 1, CPUPOLICY_POWER_ON);
	ck_assert(!(core("vm1")->vcpus[1].flags & VCPU_ONLINE));
	vmm_run_state(&source, CPUPOLICY_RUN_INACTIVE);
	rig_until(&rig, vmm_words(&target, CPUPOLICY_WORD_ENABLED) == 0x1f);
	check_silent(&source);
	vmm_run_state(&target, CPUPOLICY_RUN_RUNNING);
	ck_assert(core("vm1")->vcpus[1].flags & VCPU_ONLINE);
	ck_assert_uint_eq(core("vm1")->epoch, 2);
	ck_assert_uint_eq(cpupolicy_page_epoch(cpupolicy_page_load_head(target.page)), 2);
	ck_assert_int_eq(vmm_ask(&target, 4).psci, CPUPOLICY_PSCI_SUCCESS);
	ck_assert(!host_vm_has_incoming(host_find(rig.host, "vm1")));
	/* the source's end is nothing to the VM, whatever it calls it */
	vmm_event(&source, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	ck_assert_int_eq(core("vm1")->link, VM_CONNECTED);
	ck_assert_int_eq(vmm_ask(&target, 4).psci, CPUPOLICY_PSCI_SUCCESS);
	vmm_close(&source);
	vmm_close(&target);
}
END_TEST

/* The new epoch is committed before the page of the target speaks. */
START_TEST(migration_on_a_full_disk)
{
	struct vmm source, target;

	start();
	vmm_start(&source, &rig, 1);
	join(&target, &source);
	rig_fill_disk(true);
	vmm_run_state(&source, CPUPOLICY_RUN_INACTIVE);
	vmm_run_state(&target, CPUPOLICY_RUN_RUNNING);
	ck_assert_uint_eq(vmm_words(&source, CPUPOLICY_WORD_ENABLED), 0);
	ck_assert_uint_eq(vmm_words(&target, CPUPOLICY_WORD_ENABLED), 0);
	rig_fill_disk(false);
	rig_until(&rig, vmm_words(&target, CPUPOLICY_WORD_ENABLED) == 0xf);
	vmm_close(&source);
	vmm_close(&target);
}
END_TEST

START_TEST(migration_that_is_given_up)
{
	struct vmm source, target, second;

	start();
	vmm_start(&source, &rig, 1);
	join(&target, &source);
	vmm_reconnect(&second, &source);
	second.flags |= CPUPOLICY_REG_INCOMING;
	vmm_hello(&second);
	vmm_send_register(&second);
	vmm_expect_error(&second, CPUPOLICY_ERROR_BUSY);
	vmm_close(&second);
	vmm_run_state(&source, CPUPOLICY_RUN_PAUSED);
	vmm_run_state(&source, CPUPOLICY_RUN_RUNNING);
	check_silent(&target);
	vmm_close(&target);
	rig_until(&rig, !target.end->session);
	ck_assert(!host_vm_has_incoming(host_find(rig.host, "vm1")));
	ck_assert_int_eq(core("vm1")->link, VM_CONNECTED);
	ck_assert_int_eq(vmm_ask(&source, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	resize("vm1", 5);
	vmm_close(&source);
}
END_TEST

START_TEST(incoming_without_the_token)
{
	struct vmm source, target;

	start();
	vmm_start(&source, &rig, 1);
	vmm_reconnect(&target, &source);
	target.flags |= CPUPOLICY_REG_INCOMING;
	target.token[0] ^= 1;
	vmm_hello(&target);
	vmm_send_register(&target);
	vmm_expect_error(&target, CPUPOLICY_ERROR_IDENTITY);
	ck_assert_int_eq(vmm_ask(&source, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	vmm_close(&source);
	vmm_close(&target);
}
END_TEST

/* Each way in which a source ends hands the VM over, but for one: a source that only lost us may still run it. */
START_TEST(end_of_the_source)
{
	pid_t pid = make_process();
	struct vmm source, target;

	start();
	vmm_connect_as(&source, &rig, 1, 1000, pid);
	vmm_hello(&source);
	vmm_register(&source);
	join(&target, &source);
	switch (_i) {
	case 0:
		vmm_event(&source, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_MIGRATED);
		break;
	case 1:
		vmm_event(&source, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
		break;
	case 2:
		vmm_close(&source);
		rig_until(&rig, !source.end->session);
		ck_assert_int_eq(core("vm1")->link, VM_DISCONNECTED);
		check_silent(&target);
		break;
	case 3:
		break;
	}
	end_process(pid);
	vmm_close(&source);
	rig_until(&rig, vmm_words(&target, CPUPOLICY_WORD_ENABLED) == 0xf);
	ck_assert_int_eq(core("vm1")->link, VM_CONNECTED);
	ck_assert_int_eq(host_vm_peer(host_find(rig.host, "vm1"))->pid, getpid());
	vmm_close(&target);
}
END_TEST

/* It has the token, and it comes back: not as who runs the VM. */
START_TEST(former_source_comes_back)
{
	struct vmm source, target, again;

	start();
	vmm_start(&source, &rig, 1);
	join(&target, &source);
	vmm_run_state(&source, CPUPOLICY_RUN_INACTIVE);
	vmm_run_state(&target, CPUPOLICY_RUN_RUNNING);
	rig_until(&rig, vmm_words(&target, CPUPOLICY_WORD_ENABLED) == 0xf);
	vmm_close(&source);
	vmm_reconnect(&again, &source);
	again.run_state = CPUPOLICY_RUN_INACTIVE;
	vmm_hello(&again);
	vmm_register(&again);
	check_silent(&again);
	ck_assert_int_eq(vmm_ask(&target, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	/* and back home */
	vmm_run_state(&target, CPUPOLICY_RUN_INACTIVE);
	vmm_run_state(&again, CPUPOLICY_RUN_RUNNING);
	rig_until(&rig, vmm_words(&again, CPUPOLICY_WORD_ENABLED) == 0xf);
	check_silent(&target);
	vmm_close(&target);
	vmm_close(&again);
}
END_TEST

START_TEST(migrated_away)
{
	struct vmm v;

	start();
	vmm_start(&v, &rig, 1);
	resize("vm1", 5);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_MIGRATED);
	ck_assert_ptr_null(core("vm1"));
	ck_assert_uint_eq(rig.removed, 1);
	ck_assert_int_eq(rig.last_removed.result, JOB_DISCONNECTED);
	restart();
	ck_assert_uint_eq(host_count(rig.host), 0);
	vmm_close(&v);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("host");
	TCase *tc = tcase_create("host");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, registration);
	tcase_add_test(tc, registration_is_durable_when_answered);
	tcase_add_test(tc, token_replaces_the_live_session);
	tcase_add_test(tc, successor_of_a_vmm_that_just_ended);
	tcase_add_test(tc, another_vm_s_identity);
	tcase_add_test(tc, as_many_vms_as_configured);
	tcase_add_test(tc, level_that_asks_needs_a_vmm_that_asks);
	tcase_add_test(tc, registration_on_a_full_disk);
	tcase_add_test(tc, verdicts_and_their_record);
	tcase_add_test(tc, rate_of_cpu_on);
	tcase_add_test(tc, observe_records_and_allows);
	tcase_add_test(tc, growth);
	tcase_add_test(tc, accepted_survives);
	tcase_add_test(tc, superseded);
	tcase_add_test(tc, refused_resizes);
	tcase_add_test(tc, resize_on_a_full_disk);
	tcase_add_test(tc, reductions_hold_on_a_full_disk);
	tcase_add_test(tc, deadline);
	tcase_add_test(tc, lost_and_ended);
	tcase_add_test(tc, what_an_operator_asked_for_outlives_the_vm);
	tcase_add_test(tc, resize_of_a_stopped_vm);
	tcase_add_test(tc, forgotten_with_writes_under_way);
	tcase_add_test(tc, vmm_that_ended_while_the_daemon_was_away);
	tcase_add_test(tc, migration);
	tcase_add_test(tc, migration_on_a_full_disk);
	tcase_add_test(tc, migration_that_is_given_up);
	tcase_add_test(tc, incoming_without_the_token);
	tcase_add_loop_test(tc, end_of_the_source, 0, 4);
	tcase_add_test(tc, former_source_comes_back);
	tcase_add_test(tc, migrated_away);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
