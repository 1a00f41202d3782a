/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A VM that moves between two VMMs of this host: one of them has it, whatever happens. */

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/util.h"
#include "tests/unit/rig.h"

static struct rig rig;

static void setup(void)
{
	rig_open(&rig);
}

static void teardown(void)
{
	rig_close(&rig);
}

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

	rig_start(&rig);
	vmm_start(&source, &rig, 1);
	rig_resize(&rig, "vm1", 5);
	vmm_plug(&source, 4);
	join(&target, &source);
	ck_assert_uint_eq(target.enabled, 0);
	check_silent(&target);
	ck_assert(host_vm_has_incoming(host_find(rig.host, "vm1")));
	ck_assert_uint_eq(host_count(rig.host), 1);
	ck_assert_int_eq(vmm_ask(&source, 4).psci, CPUPOLICY_PSCI_SUCCESS);
	/* the state arrives: two vCPUs run */
	target.vcpus[1] = CPUPOLICY_VCPU_ONLINE;
	vmm_power(&target, 1, CPUPOLICY_POWER_ON);
	ck_assert(!(rig_vm(&rig, "vm1")->vcpus[1].flags & VCPU_ONLINE));
	vmm_run_state(&source, CPUPOLICY_RUN_INACTIVE);
	rig_until(&rig, vmm_words(&target, CPUPOLICY_WORD_ENABLED) == 0x1f);
	check_silent(&source);
	vmm_run_state(&target, CPUPOLICY_RUN_RUNNING);
	ck_assert(rig_vm(&rig, "vm1")->vcpus[1].flags & VCPU_ONLINE);
	ck_assert_uint_eq(rig_vm(&rig, "vm1")->epoch, 2);
	ck_assert_uint_eq(cpupolicy_page_epoch(cpupolicy_page_load_head(target.page)), 2);
	ck_assert_int_eq(vmm_ask(&target, 4).psci, CPUPOLICY_PSCI_SUCCESS);
	ck_assert(!host_vm_has_incoming(host_find(rig.host, "vm1")));
	/* the source's end is nothing to the VM, whatever it calls it */
	vmm_event(&source, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_CONNECTED);
	ck_assert_int_eq(vmm_ask(&target, 4).psci, CPUPOLICY_PSCI_SUCCESS);
	vmm_close(&source);
	vmm_close(&target);
}
END_TEST

/* The new epoch is committed before the page of the target speaks. */
START_TEST(migration_on_a_full_disk)
{
	struct vmm source, target;

	rig_start(&rig);
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

	rig_start(&rig);
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
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_CONNECTED);
	ck_assert_int_eq(vmm_ask(&source, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	rig_resize(&rig, "vm1", 5);
	vmm_close(&source);
}
END_TEST

START_TEST(incoming_without_the_token)
{
	struct vmm source, target;

	rig_start(&rig);
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

/* It did not hear in time that the guest is its own now: what joins is still who runs the VM. */
START_TEST(target_that_was_cut_off)
{
	pid_t pid = rig_process();
	struct vmm source, target, again;

	rig_start(&rig);
	vmm_connect_as(&source, &rig, 1, 1000, pid);
	vmm_hello(&source);
	vmm_register(&source);
	join(&target, &source);
	vmm_run_state(&source, CPUPOLICY_RUN_INACTIVE);
	rig_until(&rig, vmm_words(&target, CPUPOLICY_WORD_ENABLED) == 0xf);
	vmm_close(&target);
	rig_until(&rig, !target.end->session);
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_DISCONNECTED);
	join(&again, &target);
	rig_until(&rig, vmm_words(&again, CPUPOLICY_WORD_ENABLED) == 0xf);
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_CONNECTED);
	vmm_close(&source);
	rig_end_process(pid);
	vmm_close(&again);
}
END_TEST

/* Each way in which a source ends hands the VM over, but for one: a source that only lost us may still run it. */
START_TEST(end_of_the_source)
{
	pid_t pid = rig_process();
	struct vmm source, target;

	rig_start(&rig);
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
		ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_DISCONNECTED);
		check_silent(&target);
		break;
	case 3:
		break;
	}
	rig_end_process(pid);
	vmm_close(&source);
	rig_until(&rig, vmm_words(&target, CPUPOLICY_WORD_ENABLED) == 0xf);
	ck_assert_int_eq(rig_vm(&rig, "vm1")->link, VM_CONNECTED);
	ck_assert_int_eq(host_vm_peer(host_find(rig.host, "vm1"))->pid, getpid());
	vmm_close(&target);
}
END_TEST

/* It has the token, and it comes back: not as who runs the VM. */
START_TEST(former_source_comes_back)
{
	struct vmm source, target, again;

	rig_start(&rig);
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

	rig_start(&rig);
	vmm_start(&v, &rig, 1);
	rig_resize(&rig, "vm1", 5);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_MIGRATED);
	ck_assert_ptr_null(rig_vm(&rig, "vm1"));
	ck_assert_uint_eq(rig.removed, 1);
	ck_assert_int_eq(rig.last_removed.result, JOB_DISCONNECTED);
	rig_restart(&rig);
	ck_assert_uint_eq(host_count(rig.host), 0);
	vmm_close(&v);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("migration");
	TCase *tc = tcase_create("migration");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, migration);
	tcase_add_test(tc, migration_on_a_full_disk);
	tcase_add_test(tc, migration_that_is_given_up);
	tcase_add_test(tc, incoming_without_the_token);
	tcase_add_test(tc, target_that_was_cut_off);
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
