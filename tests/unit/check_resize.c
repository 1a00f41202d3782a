/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Resizes from the request to the page and the job's end, and what a full disk does to them. */

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

/* ---- resize ---- */

START_TEST(growth)
{
	struct client c;
	struct vmm v;

	rig_start(&rig);
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
	vmm_plug(&v, 4);
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

	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	client_resize(&c, &rig, "vm1", 5);
	rig_until(&rig, c.calls == 1);
	rig_restart(&rig);
	ck_assert_uint_eq(rig_vm(&rig, "vm1")->desired, 5);
	ck_assert_uint_eq(host_vm_desired_uid(host_find(rig.host, "vm1")), 500);
	ck_assert_uint_eq(rig_vm(&rig, "vm1")->job.id, c.job);
	ck_assert_ptr_nonnull(host_find_job(rig.host, c.job));
	vmm_reconnect(&again, &v);
	for (int i = 0; i < 4; i++)
		again.vcpus[i] |= CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED;
	vmm_hello(&again);
	vmm_register(&again);
	ck_assert_uint_eq(vmm_words(&again, CPUPOLICY_WORD_ENABLED), 0x1f);
	ck_assert_uint_eq(rig.job_removed, 0);
	vmm_plug(&again, 4);
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

	rig_start(&rig);
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
	rig_start(&rig);
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

	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	rig_fill_disk(true);
	client_resize(&c, &rig, "vm1", 5);
	rig_until(&rig, c.calls == 1);
	ck_assert_int_eq(c.error, HOST_STORAGE);
	ck_assert_str_ne(c.message, "");
	/* as if never asked */
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0xf);
	ck_assert_uint_eq(rig_vm(&rig, "vm1")->desired, 4);
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
	rig_restart(&rig);
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

	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	rig_fill_disk(true);
	vmm_event(&v, CPUPOLICY_EJECT, cpupolicy_eject, .vcpu = 3, .cause = CPUPOLICY_EJECT_GUEST);
	rig_until(&rig, vmm_words(&v, CPUPOLICY_WORD_ENABLED) == 0x7);
	ck_assert_uint_eq(vmm_ask(&v, 3).reason, CPUPOLICY_REASON_EJECTED);
	/* by the time that this has failed, the write of the ejection has as well */
	client_resize(&c, &rig, "vm1", 6);
	rig_until(&rig, c.calls == 1);
	ck_assert_int_eq(c.error, HOST_STORAGE);
	ck_assert_uint_lt(rig_vm(&rig, "vm1")->stored, rig_vm(&rig, "vm1")->revision);
	rig_fill_disk(false);
	rig_until(&rig, rig_vm(&rig, "vm1")->stored == rig_vm(&rig, "vm1")->revision); /* the retry, by its timer */
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_ENABLED), 0x7);
	ck_assert_uint_eq(rig.job_new, 0);
	rig_restart(&rig);
	ck_assert_uint_eq(rig_vm(&rig, "vm1")->desired, 3);
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
	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	rig_resize(&rig, "vm1", 5);
	rig_until(&rig, rig.job_removed == 1);
	ck_assert_int_eq(rig.last_removed.result, JOB_TIMEOUT);
	/* it stands while the VM is paused */
	rig_resize(&rig, "vm1", 6);
	vmm_run_state(&v, CPUPOLICY_RUN_PAUSED);
	ck_assert_uint_eq(vm_deadline(rig_vm(&rig, "vm1")), UINT64_MAX);
	vmm_run_state(&v, CPUPOLICY_RUN_RUNNING);
	rig_until(&rig, rig.job_removed == 2);
	ck_assert_int_eq(rig.last_removed.result, JOB_TIMEOUT);
	vmm_close(&v);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("resize");
	TCase *tc = tcase_create("resize");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, growth);
	tcase_add_test(tc, accepted_survives);
	tcase_add_test(tc, superseded);
	tcase_add_test(tc, refused_resizes);
	tcase_add_test(tc, resize_on_a_full_disk);
	tcase_add_test(tc, reductions_hold_on_a_full_disk);
	tcase_add_test(tc, deadline);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
