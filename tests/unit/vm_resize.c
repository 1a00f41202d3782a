/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <string.h>

#include "tests/unit/vm_cases.h"
#include "tests/unit/vm_host.h"

#define NOTIFY    CPUPOLICY_REG_NOTIFY
#define REMOVABLE CPUPOLICY_REG_BOOT_REMOVABLE
#define BOTH      (NOTIFY | REMOVABLE)

/* ---- which vCPUs ---- */

START_TEST(lowest_first_highest_first)
{
	struct vm_host h;

	vm_host_new(&h, 6, 2, BOTH);
	vm_host_resize(&h, 4);
	ck_assert_str_eq(vm_host_set(&h), "xx++--");
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "xxxx--");
	vm_host_resize(&h, 1);
	ck_assert_str_eq(vm_host_set(&h), "xooo--");
	/* What the guest still has comes back first, lowest first. */
	vm_host_resize(&h, 3);
	ck_assert_str_eq(vm_host_set(&h), "xxxo--");
	vm_host_resize(&h, 6);
	ck_assert_str_eq(vm_host_set(&h), "xxxx++");
	vm_host_done(&h);
}
END_TEST

START_TEST(holes)
{
	struct vm_host h;

	vm_host_new(&h, 6, 5, BOTH);
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	EVENT(&h, vm_eject(h.vm, 3, CPUPOLICY_EJECT_GUEST, h.now));
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "x-x-x-");
	vm_host_resize(&h, 4);
	ck_assert_str_eq(vm_host_set(&h), "x+x-x-");
	vm_host_stored(&h);
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "xxo-o-");
	vm_host_done(&h);
}
END_TEST

/* Who does not give back what it was asked for must not get more besides: that would be more than its level. */
START_TEST(a_guest_that_refuses_gains_nothing)
{
	struct vm_counts n;
	struct vm_host h;

	vm_host_new(&h, 6, 4, BOTH);
	h.level.limit = 4;
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	vm_host_refuse(&h, 3);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "x-xo--");
	vm_host_resize(&h, 3);
	ck_assert_str_eq(vm_host_set(&h), "x-xx--");
	vm_host_resize(&h, 4);
	vm_host_stored(&h);
	vm_counts(h.vm, &n);
	ck_assert_uint_eq(n.enabled, 4);
	vm_host_done(&h);
}
END_TEST

START_TEST(never_vcpu_0)
{
	struct vm_host h;

	vm_host_new(&h, 4, 4, BOTH);
	vm_host_resize(&h, 1);
	ck_assert_str_eq(vm_host_set(&h), "xooo");
	vm_host_stored(&h);
	for (uint32_t i = 0; i < 4; i++)
		vm_host_ejected(&h, i);
	ck_assert_str_eq(vm_host_set(&h), "x---");
	vm_host_done(&h);
}
END_TEST

/* ---- refusals ---- */

START_TEST(refusals)
{
	struct vm_host h;

	vm_host_new(&h, 6, 4, NOTIFY);
	h.level.limit = 5;
	ck_assert_int_eq(vm_host_try(&h, 0), VM_REFUSED_RANGE);
	ck_assert_int_eq(vm_host_try(&h, 7), VM_REFUSED_RANGE);
	ck_assert_int_eq(vm_host_try(&h, UINT32_MAX), VM_REFUSED_RANGE);
	ck_assert_int_eq(vm_host_try(&h, 6), VM_REFUSED_LIMIT);
	ck_assert_int_eq(vm_host_try(&h, 3), VM_REFUSED_BOOT);
	ck_assert_int_eq(vm_host_try(&h, 5), VM_ACCEPTED);
	ck_assert_int_eq(vm_host_try(&h, 4), VM_ACCEPTED);
	ck_assert_int_eq(vm_host_try(&h, 3), VM_REFUSED_BOOT);
	EVENT(&h, vm_run_state(h.vm, CPUPOLICY_RUN_INACTIVE, h.now));
	ck_assert_int_eq(vm_host_try(&h, 5), VM_REFUSED_MIGRATING);
	EVENT(&h, vm_run_state(h.vm, CPUPOLICY_RUN_PAUSED, h.now));
	ck_assert_int_eq(vm_host_try(&h, 5), VM_ACCEPTED);
	/* The way out: what is stopped may be told anything that its level permits. */
	EVENT(&h, vm_lost(h.vm, true, h.now));
	ck_assert_int_eq(vm_host_try(&h, 2), VM_ACCEPTED);
	ck_assert_int_eq(vm_host_try(&h, 6), VM_REFUSED_LIMIT);
	vm_host_done(&h);
}
END_TEST

START_TEST(boot_vcpus_that_the_guest_gave_up)
{
	struct vm_host h;

	vm_host_new(&h, 6, 4, NOTIFY);
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	ck_assert_str_eq(vm_host_set(&h), "x-xx--");
	ck_assert_int_eq(vm_host_try(&h, 2), VM_REFUSED_BOOT);
	ck_assert_int_eq(vm_host_try(&h, 3), VM_ACCEPTED);
	vm_host_done(&h);
}
END_TEST

START_TEST(nobody_to_notify)
{
	struct vm_host h;

	vm_host_new(&h, 4, 2, REMOVABLE);
	ck_assert_int_eq(vm_host_try(&h, 3), VM_REFUSED_NOTIFY);
	ck_assert_int_eq(vm_host_try(&h, 1), VM_REFUSED_NOTIFY);
	ck_assert_int_eq(vm_host_try(&h, 2), VM_ACCEPTED); /* it has that */
	vm_host_stored(&h);
	vm_host_ended(&h, 1, JOB_DONE);
	EVENT(&h, vm_lost(h.vm, true, h.now));
	ck_assert_int_eq(vm_host_try(&h, 3), VM_ACCEPTED);
	vm_host_done(&h);
}
END_TEST

START_TEST(too_many_wait_for_the_disk)
{
	struct vm_host h;

	vm_host_new(&h, 4, 1, BOTH);
	for (uint32_t i = 0; i < VM_UNDO_MAX; i++)
		ck_assert_int_eq(vm_host_try(&h, 1 + i % 4), VM_ACCEPTED);
	ck_assert_int_eq(vm_host_try(&h, 3), VM_REFUSED_STORAGE);
	vm_host_stored(&h);
	ck_assert_int_eq(vm_host_try(&h, 3), VM_ACCEPTED);
	vm_host_done(&h);
}
END_TEST

/* ---- jobs ---- */

START_TEST(grow_done)
{
	struct vm_host h;

	vm_host_new(&h, 6, 4, BOTH);
	vm_host_resize(&h, 6);
	ck_assert_uint_eq(h.vm->job.from, 4);
	ck_assert_uint_eq(h.vm->job.to, 6);
	ck_assert_uint_eq(h.vm->job.pending, 2);
	ck_assert_uint_eq(h.vm->job.settled, 0);
	vm_host_stored(&h);
	vm_host_ack(&h, 4);
	ck_assert_uint_eq(h.vm->job.pending, 1);
	ck_assert_uint_eq(h.vm->job.settled, 1);
	EVENT(&h, vm_power_on(h.vm, 5, CPUPOLICY_REASON_GRANTED, h.now));
	vm_host_ended(&h, 1, JOB_DONE);
	ck_assert(!h.vm->last_job.online); /* vCPU 4 is acknowledged only */
	vm_host_done(&h);
}
END_TEST

START_TEST(grow_online)
{
	struct vm_host h;

	vm_host_new(&h, 6, 4, BOTH);
	vm_host_resize(&h, 6);
	vm_host_stored(&h);
	EVENT(&h, vm_power_on(h.vm, 4, CPUPOLICY_REASON_GRANTED, h.now));
	/* Online was proof: it stays settled. */
	EVENT(&h, vm_power_off(h.vm, 4, h.now));
	ck_assert_uint_eq(h.vm->job.settled, 1);
	EVENT(&h, vm_power_on(h.vm, 4, CPUPOLICY_REASON_GRANTED, h.now));
	EVENT(&h, vm_power_on(h.vm, 5, CPUPOLICY_REASON_GRANTED, h.now));
	vm_host_ended(&h, 1, JOB_DONE);
	ck_assert(h.vm->last_job.online);
	vm_host_done(&h);
}
END_TEST

START_TEST(shrink_outcomes)
{
	static const struct {
		char guest[3]; /* what it does about vCPU 3 and 2: e ejects, r refuses, f forbids, . nothing */
		enum job_result result;
	} rows[] = {
		{"ee", JOB_DONE},          {"er", JOB_PARTIAL},         {"re", JOB_PARTIAL},
		{"rr", JOB_GUEST_REFUSED}, {"rf", JOB_GUEST_FORBIDDEN}, {"ff", JOB_GUEST_FORBIDDEN},
		{"..", JOB_TIMEOUT},       {"e.", JOB_PARTIAL},         {"r.", JOB_TIMEOUT},
		{".f", JOB_TIMEOUT},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vm_host h;

		vm_host_new(&h, 4, 4, BOTH);
		vm_host_resize(&h, 2);
		vm_host_stored(&h);
		for (uint32_t k = 0; k < 2; k++) {
			uint32_t vcpu = 3 - k;

			if (rows[i].guest[k] == 'e')
				vm_host_ejected(&h, vcpu);
			else if (rows[i].guest[k] == 'r')
				vm_host_refuse(&h, vcpu);
			else if (rows[i].guest[k] == 'f')
				EVENT(&h, vm_ost(h.vm, vcpu, 3, 0x80, h.now));
		}
		if (h.vm->job.id != 0) {
			h.now += TIMEOUT - 1;
			EVENT(&h, vm_tick(h.vm, h.now));
			ck_assert_uint_eq(h.vm->job.id, 1);
			vm_host_expire(&h);
		}
		vm_host_ended(&h, 1, rows[i].result);
		ck_assert_uint_eq(h.vm->desired, 2);
		vm_host_done(&h);
	}
}
END_TEST

/* What a refusal leaves behind is overdue, and goes when the guest changes its mind. */
START_TEST(overdue)
{
	struct vm_counts n;
	struct vm_host h;

	vm_host_new(&h, 4, 3, BOTH);
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	vm_counts(h.vm, &n);
	ck_assert_uint_eq(n.overdue, 0); /* it has time yet */
	vm_host_refuse(&h, 2);
	vm_counts(h.vm, &n);
	ck_assert_uint_eq(n.overdue, 1);
	ck_assert_uint_eq(n.enabled, 3);
	ck_assert_uint_eq(n.wanted, 2);
	vm_host_ejected(&h, 2);
	vm_counts(h.vm, &n);
	ck_assert_uint_eq(n.overdue, 0);
	ck_assert_uint_eq(n.enabled, 2);
	vm_host_done(&h);
}
END_TEST

START_TEST(the_same_count_again_asks_again)
{
	struct vm_host h;
	uint64_t before[4];

	vm_host_new(&h, 4, 3, BOTH);
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	vm_host_refuse(&h, 2);
	vm_host_stored(&h);
	for (uint32_t i = 0; i < 4; i++)
		before[i] = vm_word(h.vm, i);
	vm_host_resize(&h, 2);
	ck_assert_uint_ne(h.effects & VM_EFFECT_PAGE, 0);
	for (uint32_t i = 0; i < 4; i++)
		ck_assert_int_eq(vm_word(h.vm, i) != before[i], i == 2);
	ck_assert_uint_eq(h.vm->job.pending, 1);
	vm_host_stored(&h);
	ck_assert_uint_eq(h.vm->job.id, 2);
	vm_host_ejected(&h, 2);
	vm_host_ended(&h, 2, JOB_DONE);
	vm_host_stored(&h);

	vm_host_resize(&h, 4);
	vm_host_stored(&h);
	vm_host_ack(&h, 2);
	EVENT(&h, vm_ost(h.vm, 3, 1, 1, h.now));
	vm_host_ended(&h, 3, JOB_PARTIAL);
	vm_host_stored(&h);
	for (uint32_t i = 0; i < 4; i++)
		before[i] = vm_word(h.vm, i);
	vm_host_resize(&h, 4);
	for (uint32_t i = 0; i < 4; i++)
		ck_assert_int_eq(vm_word(h.vm, i) != before[i], i == 3);
	vm_host_stored(&h);
	vm_host_ack(&h, 3);
	vm_host_ended(&h, 4, JOB_DONE);
	vm_host_done(&h);
}
END_TEST

/* A request concerns all that is not as asked, whoever asked first. */
START_TEST(leftovers_join_the_next_job)
{
	struct vm_host h;

	vm_host_new(&h, 6, 5, BOTH);
	vm_host_resize(&h, 4);
	vm_host_stored(&h);
	vm_host_refuse(&h, 4);
	vm_host_stored(&h);
	vm_host_resize(&h, 3);
	ck_assert_uint_eq(h.vm->job.from, 5); /* what the guest has */
	ck_assert_uint_eq(h.vm->job.to, 3);
	ck_assert_uint_eq(h.vm->job.pending, 2);
	vm_host_stored(&h);
	vm_host_ejected(&h, 3);
	ck_assert_uint_eq(h.vm->job.id, 2);
	vm_host_ejected(&h, 4);
	vm_host_ended(&h, 2, JOB_DONE);
	vm_host_done(&h);
}
END_TEST

START_TEST(superseded)
{
	struct vm_host h;
	struct job old;

	vm_host_new(&h, 6, 2, BOTH);
	old = vm_host_resize(&h, 4);
	ck_assert_uint_eq(old.id, 0);
	vm_host_stored(&h);
	old = vm_host_resize(&h, 3);
	ck_assert_uint_eq(old.id, 1);
	ck_assert_int_eq(old.result, JOB_SUPERSEDED);
	ck_assert_uint_eq(h.vm->last_job.id, 1);
	ck_assert_str_eq(vm_host_set(&h), "xxxo--");
	ck_assert_uint_eq(h.vm->job.id, 2);
	vm_host_stored(&h);
	/* The eject of one, the insertion of the other. */
	vm_host_ejected(&h, 3);
	ck_assert_uint_eq(h.vm->job.pending, 1);
	vm_host_ack(&h, 2);
	vm_host_ended(&h, 2, JOB_DONE);
	vm_host_done(&h);
}
END_TEST

/* Withdrawn, but the guest had begun: it gets another one, or the same one anew. */
START_TEST(an_eject_that_comes_too_late)
{
	struct vm_host h;
	uint32_t grant;

	vm_host_new(&h, 4, 3, BOTH);
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	vm_host_resize(&h, 3);
	vm_host_stored(&h);
	vm_host_ended(&h, 2, JOB_DONE); /* it was acknowledged before */
	vm_host_stored(&h);
	grant = h.vm->vcpus[2].grant;
	vm_host_ejected(&h, 2);
	ck_assert_str_eq(vm_host_set(&h), "xx+-");
	ck_assert_uint_eq(h.vm->vcpus[2].grant, grant + 1);
	ck_assert_uint_eq(h.vm->desired, 3);
	vm_host_done(&h);

	/* With a job in flight, the job waits for it. */
	vm_host_new(&h, 4, 3, BOTH);
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	vm_host_resize(&h, 4);
	vm_host_stored(&h);
	vm_host_ejected(&h, 2);
	vm_host_ack(&h, 3);
	ck_assert_uint_eq(h.vm->job.id, 2);
	vm_host_stored(&h);
	vm_host_ack(&h, 2);
	vm_host_ended(&h, 2, JOB_DONE);
	vm_host_done(&h);
}
END_TEST

/* And then the job is about the one that takes its place, and not about it. */
START_TEST(another_one_takes_its_place)
{
	struct vm_host h;

	vm_host_new(&h, 4, 4, BOTH);
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "x-xo");
	vm_host_resize(&h, 3);
	vm_host_ejected(&h, 3);
	ck_assert_str_eq(vm_host_set(&h), "x+x-");
	vm_host_stored(&h);
	ck_assert_uint_eq(h.vm->job.pending, 1);
	ck_assert_uint_eq(h.vm->job.settled, 0);
	EVENT(&h, vm_ost(h.vm, 1, 1, 1, h.now));
	vm_host_ended(&h, 2, JOB_GUEST_REFUSED);
	vm_host_done(&h);
}
END_TEST

START_TEST(the_guest_ejects_what_it_is_given)
{
	struct vm_host h;

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 4);
	vm_host_stored(&h);
	vm_host_ack(&h, 2);
	EVENT(&h, vm_eject(h.vm, 3, CPUPOLICY_EJECT_GUEST, h.now));
	vm_host_ended(&h, 1, JOB_PARTIAL);
	ck_assert_uint_eq(h.vm->desired, 3);
	vm_host_done(&h);
}
END_TEST

START_TEST(nothing_to_do)
{
	struct vm_host h;

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 2);
	ck_assert_uint_eq(h.vm->job.id, 1); /* its client does not know of it yet */
	ck_assert_uint_eq(h.effects & (VM_EFFECT_PAGE | VM_EFFECT_JOB_ENDED), 0);
	ck_assert(h.vm->desired_set);
	vm_host_stored(&h);
	ck_assert_int_eq(h.vm->last_job.result, JOB_DONE);
	vm_host_done(&h);
}
END_TEST

START_TEST(no_job_ends_before_it_is_stored)
{
	uint8_t enabled, wanted;
	struct vm_host h;

	vm_host_new(&h, 4, 4, BOTH);
	vm_host_resize(&h, 3);
	/* The guest may be faster than the disk, and the disk slower than anything. */
	vm_host_ejected(&h, 3);
	ck_assert_uint_eq(h.vm->job.id, 1);
	ck_assert_uint_eq(h.vm->job.pending, 0);
	ck_assert_uint_eq(vm_deadline(h.vm), UINT64_MAX);
	h.now += 100 * TIMEOUT;
	EVENT(&h, vm_tick(h.vm, h.now));
	ck_assert_uint_eq(h.vm->job.id, 1);
	vm_record_grants(h.vm, &enabled, &wanted);
	EVENT(&h, vm_stored(h.vm, h.vm->revision - 2, true, &enabled, h.now)); /* from before it */
	ck_assert_uint_eq(h.vm->job.id, 1);
	vm_host_stored(&h);
	ck_assert_int_eq(h.vm->last_job.result, JOB_DONE);

	vm_host_resize(&h, 2);
	EVENT(&h, vm_lost(h.vm, true, h.now));
	ck_assert_uint_eq(h.vm->job.id, 2);
	vm_host_stored(&h);
	ck_assert_int_eq(h.vm->last_job.result, JOB_DISCONNECTED);
	vm_host_done(&h);
}
END_TEST

START_TEST(the_guest_has_its_time_from_when_it_is_stored)
{
	struct vm_host h;

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 3);
	h.now += 5 * TIMEOUT;
	vm_host_stored(&h);
	ck_assert_uint_eq(vm_deadline(h.vm), h.now + TIMEOUT);
	vm_host_done(&h);
}
END_TEST

START_TEST(paused)
{
	struct vm_host h;

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 3);
	vm_host_stored(&h);
	h.now += TIMEOUT / 4;
	EVENT(&h, vm_run_state(h.vm, CPUPOLICY_RUN_PAUSED, h.now));
	ck_assert_uint_ne(h.effects & VM_EFFECT_DEADLINE, 0);
	ck_assert_uint_eq(vm_deadline(h.vm), UINT64_MAX);
	h.now += 100 * TIMEOUT;
	EVENT(&h, vm_tick(h.vm, h.now));
	ck_assert_uint_eq(h.vm->job.id, 1);
	EVENT(&h, vm_run_state(h.vm, CPUPOLICY_RUN_INACTIVE, h.now));
	ck_assert_uint_eq(vm_deadline(h.vm), UINT64_MAX);
	EVENT(&h, vm_run_state(h.vm, CPUPOLICY_RUN_RUNNING, h.now));
	ck_assert_uint_eq(vm_deadline(h.vm), h.now + TIMEOUT - TIMEOUT / 4);
	/* Who is not there cannot say that it stands: the clock goes on. */
	EVENT(&h, vm_run_state(h.vm, CPUPOLICY_RUN_PAUSED, h.now));
	EVENT(&h, vm_lost(h.vm, false, h.now));
	vm_host_expire(&h);
	vm_host_ended(&h, 1, JOB_DISCONNECTED);
	vm_host_done(&h);
}
END_TEST

START_TEST(disconnected)
{
	struct vm_host h;

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 4);
	vm_host_stored(&h);
	vm_host_ack(&h, 2);
	EVENT(&h, vm_lost(h.vm, false, h.now));
	ck_assert_uint_eq(h.vm->job.id, 1);
	/* Back in time: it goes on. */
	h.now += TIMEOUT / 2;
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, NULL), h.now));
	ck_assert_uint_eq(h.vm->job.pending, 1);
	EVENT(&h, vm_lost(h.vm, false, h.now));
	/* A request is taken meanwhile, and stands when the VMM is back. */
	vm_host_resize(&h, 3);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "xxxo");
	vm_host_expire(&h);
	vm_host_ended(&h, 2, JOB_DISCONNECTED);
	ck_assert_uint_eq(h.vm->desired, 3);
	vm_host_done(&h);
}
END_TEST

TCase *vm_resize_case(void)
{
	TCase *t = tcase_create("resize");

	tcase_add_test(t, lowest_first_highest_first);
	tcase_add_test(t, holes);
	tcase_add_test(t, a_guest_that_refuses_gains_nothing);
	tcase_add_test(t, never_vcpu_0);
	tcase_add_test(t, refusals);
	tcase_add_test(t, boot_vcpus_that_the_guest_gave_up);
	tcase_add_test(t, nobody_to_notify);
	tcase_add_test(t, too_many_wait_for_the_disk);
	tcase_add_test(t, grow_done);
	tcase_add_test(t, grow_online);
	tcase_add_test(t, shrink_outcomes);
	tcase_add_test(t, overdue);
	tcase_add_test(t, the_same_count_again_asks_again);
	tcase_add_test(t, leftovers_join_the_next_job);
	tcase_add_test(t, superseded);
	tcase_add_test(t, an_eject_that_comes_too_late);
	tcase_add_test(t, another_one_takes_its_place);
	tcase_add_test(t, the_guest_ejects_what_it_is_given);
	tcase_add_test(t, nothing_to_do);
	tcase_add_test(t, no_job_ends_before_it_is_stored);
	tcase_add_test(t, the_guest_has_its_time_from_when_it_is_stored);
	tcase_add_test(t, paused);
	tcase_add_test(t, disconnected);
	return t;
}
