/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdlib.h>

#include "qemu-glue/hw/plug.h"

#define OFF false
#define ON  true

static const struct cpupolicy_view not_granted = {.serial = 1};
static const struct cpupolicy_view granted = {.enabled = true, .wanted = true, .serial = 1, .grant = 1};
static const struct cpupolicy_view asked_back = {.enabled = true, .serial = 1, .grant = 1};

static struct cpupolicy_view serial(struct cpupolicy_view view, uint8_t value)
{
	view.serial = value;
	return view;
}

static struct cpu_policy_slot started(const struct cpupolicy_view *view)
{
	struct cpu_policy_slot s = {0};

	cpu_policy_slot_reset(&s, view);
	return s;
}

START_TEST(start_is_silent)
{
	struct cpu_policy_slot s = started(&granted);

	ck_assert(s.enabled && s.acked);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &granted, OFF), CPU_POLICY_EFFECT_NONE);
	ck_assert(!cpu_policy_slot_raised(&s));

	s = started(&not_granted);
	ck_assert(!s.enabled);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &not_granted, OFF), CPU_POLICY_EFFECT_NONE);
}
END_TEST

START_TEST(insert)
{
	struct cpu_policy_slot s = started(&not_granted);

	ck_assert_int_eq(cpu_policy_slot_apply(&s, &granted, OFF), CPU_POLICY_EFFECT_RAISE);
	ck_assert(s.enabled && !s.acked);
	ck_assert_uint_eq(cpu_policy_slot_claim(&s), CPU_POLICY_NOTIFY_CHECK);
	ck_assert_uint_eq(cpu_policy_slot_claim(&s), 0);
	/* Some other vCPU's change: nothing new for this one. */
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &granted, OFF), CPU_POLICY_EFFECT_NONE);
	cpu_policy_slot_ost(&s, CPU_POLICY_NOTIFY_CHECK, 0);
	ck_assert(s.acked);
}
END_TEST

START_TEST(insert_is_repeated_until_answered)
{
	struct cpu_policy_slot s = started(&not_granted);
	struct cpupolicy_view again = serial(granted, 2), third = serial(granted, 3);

	cpu_policy_slot_apply(&s, &granted, OFF);
	cpu_policy_slot_claim(&s);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &again, OFF), CPU_POLICY_EFFECT_RAISE);
	ck_assert_uint_eq(cpu_policy_slot_claim(&s), CPU_POLICY_NOTIFY_CHECK);
	/* A failure is no answer. */
	cpu_policy_slot_ost(&s, CPU_POLICY_NOTIFY_CHECK, 1);
	ck_assert(!s.acked);
	cpu_policy_slot_ost(&s, CPU_POLICY_NOTIFY_CHECK, 0);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &third, OFF), CPU_POLICY_EFFECT_NONE);
}
END_TEST

START_TEST(use_answers_an_insert)
{
	struct cpu_policy_slot s = started(&not_granted);

	cpu_policy_slot_apply(&s, &granted, OFF);
	cpu_policy_slot_powered_on(&s);
	ck_assert(s.acked);
	ck_assert_uint_eq(cpu_policy_slot_claim(&s), 0);
}
END_TEST

START_TEST(eject)
{
	struct cpu_policy_slot s = started(&granted);

	ck_assert_int_eq(cpu_policy_slot_apply(&s, &asked_back, ON), CPU_POLICY_EFFECT_RAISE);
	ck_assert_msg(s.enabled, "_STA says Enabled until the guest has ejected it");
	ck_assert_uint_eq(cpu_policy_slot_claim(&s), CPU_POLICY_NOTIFY_EJECT);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &asked_back, ON), CPU_POLICY_EFFECT_NONE);
	ck_assert_int_eq(cpu_policy_slot_eject(&s), CPUPOLICY_EJECT_REQUESTED);
	ck_assert(!s.enabled);
}
END_TEST

START_TEST(refused_eject_waits_for_the_daemon)
{
	struct cpu_policy_slot s = started(&granted);
	struct cpupolicy_view again = serial(asked_back, 2);

	cpu_policy_slot_apply(&s, &asked_back, ON);
	cpu_policy_slot_claim(&s);
	cpu_policy_slot_ost(&s, CPU_POLICY_NOTIFY_EJECT, 0x82);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &asked_back, ON), CPU_POLICY_EFFECT_NONE);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &again, ON), CPU_POLICY_EFFECT_RAISE);
	ck_assert_uint_eq(cpu_policy_slot_claim(&s), CPU_POLICY_NOTIFY_EJECT);
}
END_TEST

START_TEST(withdrawn_before_the_guest_looked)
{
	struct cpu_policy_slot s = started(&granted);

	cpu_policy_slot_apply(&s, &asked_back, ON);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &granted, ON), CPU_POLICY_EFFECT_NONE);
	ck_assert_uint_eq(cpu_policy_slot_claim(&s), 0);
	ck_assert_int_eq(cpu_policy_slot_eject(&s), CPUPOLICY_EJECT_GUEST);
}
END_TEST

START_TEST(withdrawn_too_late)
{
	struct cpu_policy_slot s = started(&granted);

	cpu_policy_slot_apply(&s, &asked_back, ON);
	cpu_policy_slot_claim(&s);
	cpu_policy_slot_apply(&s, &granted, ON);
	cpu_policy_slot_ost(&s, CPU_POLICY_NOTIFY_EJECT, 0x84);
	ck_assert_int_eq(cpu_policy_slot_eject(&s), CPUPOLICY_EJECT_REQUESTED);
}
END_TEST

START_TEST(withdrawn_and_refused)
{
	struct cpu_policy_slot s = started(&granted);

	cpu_policy_slot_apply(&s, &asked_back, ON);
	cpu_policy_slot_claim(&s);
	cpu_policy_slot_apply(&s, &granted, ON);
	cpu_policy_slot_ost(&s, CPU_POLICY_NOTIFY_EJECT, 0x82);
	/* That request is over: an eject that comes now is the guest's own idea. */
	ck_assert_int_eq(cpu_policy_slot_eject(&s), CPUPOLICY_EJECT_GUEST);
}
END_TEST

START_TEST(not_granted_any_more_is_asked_back)
{
	struct cpu_policy_slot s = started(&granted);

	ck_assert_int_eq(cpu_policy_slot_apply(&s, &not_granted, ON), CPU_POLICY_EFFECT_RAISE);
	ck_assert(s.enabled);
	ck_assert_uint_eq(cpu_policy_slot_claim(&s), CPU_POLICY_NOTIFY_EJECT);
}
END_TEST

START_TEST(asked_back_before_it_was_seen)
{
	struct cpu_policy_slot s = started(&not_granted);

	ck_assert_int_eq(cpu_policy_slot_apply(&s, &asked_back, OFF), CPU_POLICY_EFFECT_GIVEN_BACK);
	ck_assert(!s.enabled && !cpu_policy_slot_raised(&s));

	s = started(&not_granted);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &asked_back, ON), CPU_POLICY_EFFECT_RAISE);
	ck_assert(s.enabled);
}
END_TEST

START_TEST(nothing_moves_while_it_is_powered_off_for_eject)
{
	struct cpu_policy_slot s = started(&granted);
	struct cpupolicy_view again = serial(granted, 2);

	s.ejecting = true;
	s.enabled = false;
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &again, ON), CPU_POLICY_EFFECT_NONE);
	ck_assert(!s.enabled);
	cpu_policy_slot_eject(&s);
	ck_assert_int_eq(cpu_policy_slot_apply(&s, &again, OFF), CPU_POLICY_EFFECT_RAISE);
}
END_TEST

START_TEST(reset_resolves_what_is_pending)
{
	struct cpu_policy_slot s = started(&granted);

	s.boot = true;
	cpu_policy_slot_apply(&s, &asked_back, ON);
	cpu_policy_slot_claim(&s);
	cpu_policy_slot_reset(&s, &not_granted);
	ck_assert(!s.enabled && !s.eject_asked && !s.eject_seen && s.acked);
	ck_assert_msg(s.boot, "who was enabled at start does not change");

	s = started(&not_granted);
	cpu_policy_slot_apply(&s, &granted, OFF);
	cpu_policy_slot_reset(&s, &granted);
	ck_assert(s.enabled && s.acked && !cpu_policy_slot_raised(&s));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qemu plug");
	TCase *tc = tcase_create("slot");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, start_is_silent);
	tcase_add_test(tc, insert);
	tcase_add_test(tc, insert_is_repeated_until_answered);
	tcase_add_test(tc, use_answers_an_insert);
	tcase_add_test(tc, eject);
	tcase_add_test(tc, refused_eject_waits_for_the_daemon);
	tcase_add_test(tc, withdrawn_before_the_guest_looked);
	tcase_add_test(tc, withdrawn_too_late);
	tcase_add_test(tc, withdrawn_and_refused);
	tcase_add_test(tc, not_granted_any_more_is_asked_back);
	tcase_add_test(tc, asked_back_before_it_was_seen);
	tcase_add_test(tc, nothing_moves_while_it_is_powered_off_for_eject);
	tcase_add_test(tc, reset_resolves_what_is_pending);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
