/* SPDX-License-Identifier: GPL-2.0-or-later */

/* CPU time: what is asked for in fractions of CPUs, and what is held against a guest that keeps more than it may. */

#include <string.h>

#include "daemon/core/plug.h"
#include "tests/unit/vm_cases.h"
#include "tests/unit/vm_host.h"

#define FLAGS (CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE)

static struct vm_host h;

static void done(void)
{
	vm_host_done(&h);
}

static enum vm_refusal try(uint32_t millis)
{
	struct job superseded = {0};
	unsigned effects = 0;
	struct vm_event e;
	enum vm_refusal refusal;

	vm_event_begin(&e, h.vm);
	refusal = vm_resize_millis(h.vm, millis, ++h.last_id, h.now, &superseded, &effects);
	if (refusal == VM_ACCEPTED)
		vm_host_after(&h, &e, effects);
	return refusal;
}

static void ask(uint32_t millis)
{
	ck_assert_int_eq(try(millis), VM_ACCEPTED);
}

/* ---- what is asked for ---- */

START_TEST(as_many_vcpus_as_it_takes)
{
	static const uint32_t counts[][2] = {{1, 1}, {999, 1}, {1000, 1}, {1001, 2}, {2500, 3}, {4000, 4}};

	vm_host_new(&h, 4, 1, FLAGS);
	ck_assert_int_eq(try(0), VM_REFUSED_RANGE);
	ck_assert_int_eq(try(4001), VM_REFUSED_RANGE);
	ck_assert_int_eq(try(UINT32_MAX), VM_REFUSED_RANGE);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		ask(counts[i][0]);
		ck_assert_uint_eq(h.vm->desired, counts[i][1]);
		ck_assert_uint_eq(vm_target(h.vm), counts[i][1]);
		ck_assert_uint_eq(h.vm->job.to, counts[i][1]);
		vm_host_stored(&h);
	}
}
END_TEST

START_TEST(the_cap_comes_before_the_vcpu)
{
	vm_host_new(&h, 4, 1, FLAGS);
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
	ask(1500);
	ck_assert_str_eq(vm_host_set(&h), "x+--"); /* the page does not show it yet */
	ck_assert_uint_eq(vm_quota(h.vm), 1500);
	vm_host_stored(&h);
	ck_assert_uint_eq(vm_quota(h.vm), 1500);
	/* of whole ones there is no need */
	ask(3000);
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
	vm_host_stored(&h);
	/* and less of one vCPU is less */
	ask(200);
	ck_assert_uint_eq(vm_quota(h.vm), 200);
}
END_TEST

START_TEST(capped_first_then_ejected)
{
	vm_host_new(&h, 4, 4, FLAGS);
	ask(2000);
	ck_assert_uint_eq(vm_quota(h.vm), 2000);
	vm_host_stored(&h);
	vm_host_ejected(&h, 3);
	ck_assert_uint_eq(vm_quota(h.vm), 2000);
	vm_host_ejected(&h, 2);
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
}
END_TEST

START_TEST(a_count_ends_it)
{
	vm_host_new(&h, 4, 1, FLAGS);
	ask(1500);
	vm_host_stored(&h);
	vm_host_resize(&h, 2);
	ck_assert_uint_eq(h.vm->millis, 0);
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
	/* what cannot be stored is taken back, the cap comes again */
	vm_host_failed(&h);
	ck_assert_uint_eq(h.vm->millis, 1500);
	ck_assert_uint_eq(vm_quota(h.vm), 1500);
}
END_TEST

START_TEST(what_is_not_stored_was_not_asked_for)
{
	vm_host_new(&h, 4, 1, FLAGS);
	ask(1500);
	ask(2500);
	vm_host_failed(&h);
	ck_assert_uint_eq(h.vm->millis, 0);
	ck_assert_uint_eq(h.vm->desired, 1);
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
}
END_TEST

START_TEST(the_guest_gives_up_what_it_was_for)
{
	vm_host_new(&h, 4, 1, FLAGS);
	ask(1500);
	vm_host_stored(&h);
	vm_host_ack(&h, 1);
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	ck_assert_uint_eq(h.vm->desired, 1);
	ck_assert_uint_eq(h.vm->millis, 0);
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
	/* the last one cannot be given up, nor what it is held to */
	ask(500);
	vm_host_stored(&h);
	EVENT(&h, vm_eject(h.vm, 0, CPUPOLICY_EJECT_GUEST, h.now));
	ck_assert_uint_eq(h.vm->millis, 500);
}
END_TEST

START_TEST(kept_while_stopped)
{
	vm_host_new(&h, 4, 1, FLAGS);
	ask(1500);
	vm_host_stored(&h);
	EVENT(&h, vm_lost(h.vm, false, h.now));
	ck_assert_uint_eq(vm_quota(h.vm), 1500);
	EVENT(&h, vm_lost(h.vm, true, h.now));
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
	ck_assert_uint_eq(h.vm->millis, 1500);
	vm_host_start(&h, 1, FLAGS);
	ck_assert_str_eq(vm_host_set(&h), "xx--");
	ck_assert_uint_eq(vm_quota(h.vm), 1500);
}
END_TEST

START_TEST(restored)
{
	uint8_t enabled = 0x7, wanted = 0x3;

	vm_host_setup(&h, 4);
	h.level.refusal = CLASS_QUOTA;
	h.vm->desired = 2;
	h.vm->desired_set = true;
	h.vm->millis = 1200;
	vm_restore_grants(h.vm, &enabled, &wanted);
	ck_assert_uint_eq(vm_quota(h.vm), 1200);
	ck_assert_ptr_null(vm_consistent(h.vm));
}
END_TEST

/* ---- what is kept ---- */

START_TEST(refusal_by_quota)
{
	vm_host_new(&h, 4, 4, FLAGS);
	h.level.refusal = CLASS_QUOTA;
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE); /* it has its time */
	vm_host_refuse(&h, 3);
	ck_assert_uint_eq(vm_quota(h.vm), 2000);
	vm_host_ejected(&h, 3);
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE); /* of the other one it has not said anything */
	vm_host_expire(&h);
	ck_assert_uint_eq(vm_quota(h.vm), 2000);
	EVENT(&h, vm_set_allowance(h.vm, 1, h.now));
	ck_assert_uint_eq(vm_quota(h.vm), 1000);
	EVENT(&h, vm_set_allowance(h.vm, 4, h.now));
	vm_host_stored(&h);
	ck_assert_uint_eq(vm_quota(h.vm), 2000);
	vm_host_resize(&h, 3); /* it may keep it */
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
}
END_TEST

START_TEST(other_refusals_hold_nothing)
{
	vm_host_new(&h, 4, 4, FLAGS);
	for (int refusal = CLASS_RETRY; refusal <= CLASS_REVOKE; refusal++) {
		h.level.refusal = (enum class_refusal)refusal;
		vm_host_resize(&h, 3 - (uint32_t)refusal);
		vm_host_stored(&h);
		vm_host_refuse(&h, 3);
		ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
	}
}
END_TEST

/* A snapshot, or another host, knew of more. */
START_TEST(online_and_not_granted)
{
	const uint32_t on[4] = {CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_ONLINE, 0};

	vm_host_setup(&h, 4);
	h.level.refusal = CLASS_QUOTA;
	vm_host_start_flags(&h, 1, FLAGS, on);
	vm_host_stored(&h);
	ck_assert_uint_eq(vm_quota(h.vm), 1000);
	EVENT(&h, vm_power_off(h.vm, 2, h.now));
	EVENT(&h, vm_power_off(h.vm, 1, h.now));
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
}
END_TEST

START_TEST(standing)
{
	vm_host_setup(&h, 4);
	h.level.standing_quota = true;
	vm_host_start(&h, 2, FLAGS);
	ck_assert_uint_eq(vm_quota(h.vm), 2000);
	vm_host_resize(&h, 3);
	vm_host_stored(&h);
	ck_assert_uint_eq(vm_quota(h.vm), 3000);
	vm_host_resize(&h, 1);
	vm_host_stored(&h);
	ck_assert_uint_eq(vm_quota(h.vm), 3000); /* it has not given back */
	vm_host_ejected(&h, 2);
	ck_assert_uint_eq(vm_quota(h.vm), 2000);
	ask(700);
	ck_assert_uint_eq(vm_quota(h.vm), 700); /* the least counts */
	h.level.refusal = CLASS_QUOTA;
	vm_host_refuse(&h, 1);
	ck_assert_uint_eq(vm_quota(h.vm), 700);
	vm_host_resize(&h, 1);
	ck_assert_uint_eq(vm_quota(h.vm), 1000);
}
END_TEST

START_TEST(observed)
{
	struct service_class other = h.level;

	vm_host_new(&h, 4, 2, FLAGS);
	h.level.standing_quota = true;
	other = h.level;
	EVENT(&h, vm_set_class(h.vm, &other, true, h.now));
	ck_assert_uint_eq(vm_quota(h.vm), VM_QUOTA_NONE);
	/* what an operator asks for is not a refusal */
	ask(1500);
	ck_assert_uint_eq(vm_quota(h.vm), 1500);
	EVENT(&h, vm_set_class(h.vm, &h.level, false, h.now));
	ck_assert_uint_eq(vm_quota(h.vm), 1500);
	vm_host_resize(&h, 2);
	ck_assert_uint_eq(vm_quota(h.vm), 2000);
}
END_TEST

TCase *vm_quota_case(void)
{
	TCase *t = tcase_create("quota");

	tcase_add_checked_fixture(t, NULL, done);
	tcase_add_test(t, as_many_vcpus_as_it_takes);
	tcase_add_test(t, the_cap_comes_before_the_vcpu);
	tcase_add_test(t, capped_first_then_ejected);
	tcase_add_test(t, a_count_ends_it);
	tcase_add_test(t, what_is_not_stored_was_not_asked_for);
	tcase_add_test(t, the_guest_gives_up_what_it_was_for);
	tcase_add_test(t, kept_while_stopped);
	tcase_add_test(t, restored);
	tcase_add_test(t, refusal_by_quota);
	tcase_add_test(t, other_refusals_hold_nothing);
	tcase_add_test(t, online_and_not_granted);
	tcase_add_test(t, standing);
	tcase_add_test(t, observed);
	return t;
}
