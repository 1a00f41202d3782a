/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The host with a real store, through real sessions: who may be which VM, what is recorded, what ends it. */

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/util.h"
#include "tests/unit/rig.h"

#define DEFAULT(members) "{\"classes\": {\"default\": {" members "}}}"

static struct rig rig;

static void setup(void)
{
	rig_open(&rig);
}

static void teardown(void)
{
	rig_close(&rig);
}

/* ---- registration ---- */

START_TEST(registration)
{
	struct vmm v;
	const struct vm *vm;

	rig_start(&rig);
	vmm_connect(&v, &rig, 1);
	vmm_hello(&v);
	ck_assert_ptr_null(rig_vm(&rig, "vm1"));
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
	vm = rig_vm(&rig, "vm1");
	ck_assert_ptr_eq(vm, rig_vm(&rig, "01010101-0101-0101-0101-010101010101"));
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

	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	rig_restart(&rig);
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_DISCONNECTED);
	ck_assert_uint_eq(rig_vm(&rig, "vm1")->possible, 6);
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

	rig_start(&rig);
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
	pid_t pid = rig_process();
	struct vmm v, next;

	rig_start(&rig);
	vmm_connect_as(&v, &rig, 1, 1000, pid);
	vmm_hello(&v);
	vmm_register(&v);
	vmm_connect(&next, &rig, 1);
	vmm_hello(&next);
	rig_end_process(pid);
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

	rig_start(&rig);
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
	rig_start(&rig);
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
	rig_start(&rig);
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

	rig_start(&rig);
	vmm_start(&other, &rig, 2);
	rig_fill_disk(true);
	vmm_connect(&v, &rig, 1);
	vmm_hello(&v);
	vmm_send_register(&v);
	vmm_expect_error(&v, CPUPOLICY_ERROR_STORAGE);
	ck_assert_ptr_null(rig_vm(&rig, "vm1"));
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

	rig_start(&rig);
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
	ck_assert_uint_eq(rig_vm(&rig, "vm1")->denied, 31);
	/* what the page denied by itself is recorded as well */
	vmm_event(&v, CPUPOLICY_POWER, cpupolicy_power, .vcpu = 4, .event = CPUPOLICY_POWER_DENIED,
		  .reason = CPUPOLICY_REASON_NOT_ENABLED, .count = 9);
	rig_until(&rig, rig.denied == 3);
	ck_assert_uint_eq(rig.denials[2].count, 9);
	ck_assert_uint_eq(rig_vm(&rig, "vm1")->denied, 40);
	vmm_close(&v);
}
END_TEST

START_TEST(rate_of_cpu_on)
{
	struct vmm v;

	rig_policy(&rig, DEFAULT("\"cpu_on\": {\"per_second\": 1, \"burst\": 2}"));
	rig_start(&rig);
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
	rig_start(&rig);
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

/* ---- the end of a VMM ---- */

START_TEST(lost_and_ended)
{
	pid_t pid = rig_process();
	struct vmm v;

	rig_start(&rig);
	vmm_connect_as(&v, &rig, 1, 1000, pid);
	vmm_hello(&v);
	vmm_register(&v);
	vmm_close(&v);
	rig_until(&rig, !v.end->session);
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_DISCONNECTED);
	ck_assert_uint_eq(rig.removed, 0);
	rig_end_process(pid);
	rig_until(&rig, !rig_vm(&rig, "vm1"));
	ck_assert_uint_eq(rig.removed, 1);
	rig_restart(&rig);
	ck_assert_uint_eq(host_count(rig.host), 0);
}
END_TEST

START_TEST(what_an_operator_asked_for_outlives_the_vm)
{
	struct client c;
	struct vmm v;

	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	client_forget(&c, &rig, "vm1");
	ck_assert_int_eq(c.error, HOST_VM_RUNNING);
	rig_resize(&rig, "vm1", 5);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_close(&v);
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_STOPPED);
	ck_assert_int_eq(rig.last_removed.result, JOB_DISCONNECTED);
	rig_until(&rig, rig_vm(&rig, "vm1")->stored == rig_vm(&rig, "vm1")->revision);
	rig_restart(&rig);
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_STOPPED);
	/* its next start, under another name and larger */
	vmm_connect(&v, &rig, 1);
	strcpy(v.name, "renamed");
	v.possible = 8;
	vmm_hello(&v);
	vmm_register(&v);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0x1f);
	ck_assert_ptr_null(rig_vm(&rig, "vm1"));
	ck_assert_uint_eq(rig_vm(&rig, "renamed")->possible, 8);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_close(&v);
	client_forget(&c, &rig, "renamed");
	rig_until(&rig, c.calls == 1);
	ck_assert_int_eq(c.error, HOST_OK);
	ck_assert_uint_eq(host_count(rig.host), 0);
	rig_restart(&rig);
	ck_assert_uint_eq(host_count(rig.host), 0);
}
END_TEST

/* A stopped VM takes a count for its next start. */
START_TEST(resize_of_a_stopped_vm)
{
	struct vmm v;

	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	rig_resize(&rig, "vm1", 5);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_close(&v);
	rig_resize(&rig, "vm1", 2);
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

	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	rig_resize(&rig, "vm1", 5);
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
	rig_restart(&rig);
	ck_assert_uint_eq(host_count(rig.host), 0);
}
END_TEST

START_TEST(vmm_that_ended_while_the_daemon_was_away)
{
	pid_t pid = rig_process(), other_pid = rig_process();
	struct vmm v, other;

	rig_start(&rig);
	vmm_connect_as(&v, &rig, 1, 1000, pid);
	vmm_hello(&v);
	vmm_register(&v);
	vmm_connect_as(&other, &rig, 2, 1000, other_pid);
	vmm_hello(&other);
	vmm_register(&other);
	rig_stop(&rig);
	rig_end_process(pid);
	rig_start(&rig);
	ck_assert_ptr_null(rig_vm(&rig, "vm1"));
	ck_assert_int_eq(rig_vm(&rig, "vm2")->link, VM_DISCONNECTED);
	rig_end_process(other_pid); /* watched by the new daemon as by the old */
	rig_until(&rig, !rig_vm(&rig, "vm2"));
	vmm_close(&v);
	vmm_close(&other);
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
	tcase_add_test(tc, lost_and_ended);
	tcase_add_test(tc, what_an_operator_asked_for_outlives_the_vm);
	tcase_add_test(tc, resize_of_a_stopped_vm);
	tcase_add_test(tc, forgotten_with_writes_under_way);
	tcase_add_test(tc, vmm_that_ended_while_the_daemon_was_away);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
