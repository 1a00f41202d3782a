/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <string.h>

#include "tests/unit/vm_cases.h"
#include "tests/unit/vm_host.h"

#define BOTH (CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE)

START_TEST(grants_wait_for_the_disk)
{
	uint8_t enabled, wanted;
	struct vm_host h;

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 3);
	ck_assert_uint_eq(vm_word(h.vm, 2) & CPUPOLICY_WORD_ENABLED, 0);
	ck_assert_uint_eq(h.effects & (VM_EFFECT_PAGE | VM_EFFECT_STORE), VM_EFFECT_STORE);
	/* Only what the record held. */
	enabled = 3;
	EVENT(&h, vm_stored(h.vm, h.vm->revision, true, &enabled, h.now));
	ck_assert_str_eq(vm_host_set(&h), "xx+-");
	ck_assert_int_eq(vm_host_try(&h, 3), VM_ACCEPTED);
	vm_record_grants(h.vm, &enabled, &wanted);
	ck_assert_uint_eq(enabled, 7);
	ck_assert_uint_eq(wanted, 7);
	EVENT(&h, vm_stored(h.vm, h.vm->revision, true, &enabled, h.now));
	ck_assert_uint_ne(vm_word(h.vm, 2) & CPUPOLICY_WORD_ENABLED, 0);
	ck_assert_uint_ne(h.effects & VM_EFFECT_PAGE, 0);
	/* Asking back does not wait. */
	vm_host_resize(&h, 2);
	ck_assert_uint_eq(vm_word(h.vm, 2) & CPUPOLICY_WORD_WANTED, 0);
	ck_assert_uint_ne(h.effects & VM_EFFECT_PAGE, 0);
	vm_record_grants(h.vm, &enabled, &wanted);
	ck_assert_uint_eq(enabled, 7);
	ck_assert_uint_eq(wanted, 3);
	vm_host_done(&h);
}
END_TEST

/* The record that grants it is on disk, but so may soon be the one that withdrew it: that is not this grant. */
START_TEST(a_late_answer_is_not_for_the_next_grant)
{
	uint8_t first, wanted, last;
	uint64_t revision;
	struct vm_host h;

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 3);
	revision = h.vm->revision;
	vm_record_grants(h.vm, &first, &wanted);
	vm_host_resize(&h, 2);
	ck_assert_str_eq(vm_host_set(&h), "xx--");
	vm_host_resize(&h, 3);
	vm_record_grants(h.vm, &last, &wanted);
	EVENT(&h, vm_stored(h.vm, revision, true, &first, h.now));
	ck_assert_str_eq(vm_host_set(&h), "xx+-");
	EVENT(&h, vm_stored(h.vm, h.vm->revision, true, &last, h.now));
	ck_assert_str_eq(vm_host_set(&h), "xxx-");
	/* Nor is one that comes out of order, or is of nothing. */
	EVENT(&h, vm_stored(h.vm, revision, false, NULL, h.now));
	ck_assert_uint_eq(h.effects, 0);
	EVENT(&h, vm_stored(h.vm, h.vm->revision + 1, true, &last, h.now));
	ck_assert_uint_eq(h.effects, 0);
	vm_host_done(&h);
}
END_TEST

START_TEST(a_growth_that_cannot_be_stored)
{
	struct vm_host h;
	uint64_t failed;

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 3);
	vm_host_stored(&h);
	vm_host_ack(&h, 2);
	vm_host_stored(&h);
	vm_host_resize(&h, 4);
	failed = h.vm->revision;
	vm_host_failed(&h);
	vm_host_ended(&h, 2, JOB_STORAGE);
	ck_assert_uint_eq(h.vm->desired, 3);
	ck_assert(h.vm->desired_set);
	ck_assert_str_eq(vm_host_set(&h), "xxx-");
	/* The record differs still. */
	ck_assert_uint_gt(h.vm->revision, failed);
	ck_assert_uint_lt(h.vm->stored, h.vm->revision);
	ck_assert_uint_ne(h.effects & VM_EFFECT_STORE, 0);
	vm_host_failed(&h);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "xxx-");
	vm_host_done(&h);

	vm_host_new(&h, 4, 2, BOTH);
	vm_host_resize(&h, 3);
	vm_host_failed(&h);
	ck_assert_uint_eq(h.vm->desired, 2);
	ck_assert(!h.vm->desired_set);
	vm_host_done(&h);
}
END_TEST

START_TEST(a_shrinking_that_cannot_be_stored)
{
	struct vm_host h;

	vm_host_new(&h, 4, 4, BOTH);
	vm_host_resize(&h, 2);
	vm_host_ejected(&h, 3);
	vm_host_failed(&h);
	vm_host_ended(&h, 1, JOB_STORAGE);
	ck_assert_uint_eq(h.vm->desired, 4);
	/* What the guest still has is its own again; what it gave back needs the disk. */
	ck_assert_str_eq(vm_host_set(&h), "xxx-");
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "xxxx");
	vm_host_done(&h);
}
END_TEST

/* Each request that fails goes back to the one before it that did not. */
START_TEST(several_requests_on_their_way)
{
	uint8_t enabled[4], wanted;
	uint64_t revision[4];
	struct vm_host h;

	for (unsigned ok = 0; ok < 8; ok++) {
		uint32_t expected = 1;

		vm_host_new(&h, 4, 1, BOTH);
		for (uint32_t i = 0; i < 3; i++) {
			vm_host_resize(&h, 2 + i);
			revision[i] = h.vm->revision;
			vm_record_grants(h.vm, &enabled[i], &wanted);
		}
		for (uint32_t i = 0; i < 3; i++) {
			bool done = ok >> i & 1;

			EVENT(&h, vm_stored(h.vm, revision[i], done, &enabled[i], h.now));
			if (done)
				expected = 2 + i;
			/* Until the last is decided, it is what was asked for last. */
			ck_assert_uint_eq(h.vm->desired, i < 2 ? 4 : expected);
		}
		ck_assert_int_eq(h.vm->desired_set, ok != 0);
		vm_host_stored(&h);
		ck_assert_uint_eq(h.vm->desired, expected);
		ck_assert_int_eq(h.vm->last_job.result == JOB_STORAGE, !(ok & 4));
		vm_host_done(&h);
	}
}
END_TEST

/* What is on its way does not fail with what came before it. */
START_TEST(a_later_grant_stands)
{
	uint64_t revision;
	struct vm_host h;

	vm_host_new(&h, 4, 1, BOTH);
	vm_host_resize(&h, 2);
	revision = h.vm->revision;
	vm_host_resize(&h, 4);
	ck_assert_str_eq(vm_host_set(&h), "x+++");
	EVENT(&h, vm_stored(h.vm, revision, false, NULL, h.now));
	ck_assert_str_eq(vm_host_set(&h), "x-++");
	ck_assert_uint_eq(h.vm->job.id, 2);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "xxxx");
	vm_host_done(&h);
}
END_TEST

/* The guest gives up a vCPU while a request is on its way that fails: without the request it would have one less as well. */
START_TEST(what_the_guest_gave_up_stays_so)
{
	struct vm_host h;

	vm_host_new(&h, 6, 4, BOTH);
	vm_host_resize(&h, 6);
	EVENT(&h, vm_eject(h.vm, 1, CPUPOLICY_EJECT_GUEST, h.now));
	ck_assert_uint_eq(h.vm->desired, 5);
	vm_host_failed(&h);
	ck_assert_uint_eq(h.vm->desired, 3);
	vm_host_stored(&h);
	ck_assert_str_eq(vm_host_set(&h), "x-xx--");
	vm_host_done(&h);
}
END_TEST

START_TEST(a_failure_later_on_does_not_end_the_job)
{
	struct vm_host h;

	vm_host_new(&h, 4, 4, BOTH);
	vm_host_resize(&h, 2);
	vm_host_stored(&h);
	vm_host_ejected(&h, 3);
	vm_host_failed(&h);
	ck_assert_uint_eq(h.vm->job.id, 1);
	ck_assert_uint_eq(h.vm->desired, 2);
	vm_host_ejected(&h, 2);
	vm_host_ended(&h, 1, JOB_DONE);
	vm_host_done(&h);
}
END_TEST

START_TEST(restored)
{
	const uint8_t enabled = 0x3b, wanted = 0x1b;
	struct vm_host h;
	uint8_t e, w;

	vm_host_setup(&h, 6);
	h.vm->desired = 4;
	h.vm->desired_set = true;
	h.vm->boot_removable = h.vm->notify = true;
	h.vm->epoch = 7;
	vm_restore_grants(h.vm, &enabled, &wanted);
	ck_assert_int_eq(h.vm->link, VM_DISCONNECTED);
	ck_assert_str_eq(vm_host_set(&h), "xx-xxo");
	vm_record_grants(h.vm, &e, &w);
	ck_assert_uint_eq(e, enabled);
	ck_assert_uint_eq(w, wanted);
	ck_assert_ptr_null(vm_consistent(h.vm));
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, NULL), h.now));
	ck_assert_uint_eq(h.vm->epoch, 8);
	ck_assert_str_eq(vm_host_set(&h), "xx-xxo");
	vm_host_done(&h);
}
END_TEST

static void restore_job(struct vm_host *h, uint32_t from, uint32_t to, uint8_t enabled, uint8_t wanted)
{
	vm_host_setup(h, 6);
	h->vm->desired = to;
	h->vm->desired_set = true;
	h->vm->boot_removable = h->vm->notify = true;
	job_start(&h->vm->job, 5, from, to, TIMEOUT, false, h->now);
	vm_restore_grants(h->vm, &enabled, &wanted);
	ck_assert_ptr_null(vm_consistent(h->vm));
}

START_TEST(restored_with_a_growth)
{
	static const uint32_t one_acked[] = {
		CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_ACKED, CPUPOLICY_VCPU_ACKED, 0, 0, 0};
	static const uint32_t none_acked[] = {CPUPOLICY_VCPU_ONLINE, CPUPOLICY_VCPU_ACKED, 0, 0, 0, 0};
	struct vm_host h;

	restore_job(&h, 2, 4, 0x0f, 0x0f);
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, one_acked), h.now));
	ck_assert_uint_eq(h.vm->job.pending, 1);
	ck_assert_uint_eq(h.vm->job.settled, 1);
	vm_host_expire(&h);
	vm_host_ended(&h, 5, JOB_PARTIAL);
	/* The next one is known by its vCPUs again. */
	vm_host_resize(&h, 6);
	ck_assert_uint_eq(h.vm->job.pending, 3);
	vm_host_stored(&h);
	vm_host_ack(&h, 4);
	vm_host_ack(&h, 5);
	vm_host_ack(&h, 3);
	vm_host_ended(&h, 1, JOB_DONE);
	ck_assert_uint_eq(h.vm->last_job.settled, 3);
	vm_host_done(&h);

	/* The boot vCPUs that were acknowledged all along do not make it a partial success. */
	restore_job(&h, 2, 4, 0x0f, 0x0f);
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, none_acked), h.now));
	ck_assert_uint_eq(h.vm->job.pending, 2);
	ck_assert_uint_eq(h.vm->job.settled, 0);
	vm_host_expire(&h);
	vm_host_ended(&h, 5, JOB_TIMEOUT);
	vm_host_done(&h);

	restore_job(&h, 2, 4, 0x0f, 0x0f);
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, none_acked), h.now));
	vm_host_ack(&h, 2);
	vm_host_ack(&h, 3);
	vm_host_ended(&h, 5, JOB_DONE);
	vm_host_done(&h);

	restore_job(&h, 2, 4, 0x0f, 0x0f);
	vm_host_expire(&h);
	vm_host_ended(&h, 5, JOB_DISCONNECTED);
	vm_host_done(&h);
}
END_TEST

START_TEST(restored_with_a_shrinking)
{
	struct vm_host h;

	restore_job(&h, 4, 2, 0x07, 0x03);
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, NULL), h.now));
	ck_assert_uint_eq(h.vm->job.pending, 1);
	ck_assert_uint_eq(h.vm->job.settled, 1);
	vm_host_ejected(&h, 2);
	vm_host_ended(&h, 5, JOB_DONE);
	vm_host_done(&h);

	/* It had come to its end, but could not say so. */
	restore_job(&h, 4, 2, 0x03, 0x03);
	EVENT(&h, vm_resume(h.vm, vm_host_report(&h, NULL), h.now));
	vm_host_ended(&h, 5, JOB_DONE);
	vm_host_done(&h);
}
END_TEST

TCase *vm_durable_case(void)
{
	TCase *t = tcase_create("durable");

	tcase_add_test(t, grants_wait_for_the_disk);
	tcase_add_test(t, a_late_answer_is_not_for_the_next_grant);
	tcase_add_test(t, a_growth_that_cannot_be_stored);
	tcase_add_test(t, a_shrinking_that_cannot_be_stored);
	tcase_add_test(t, several_requests_on_their_way);
	tcase_add_test(t, a_later_grant_stands);
	tcase_add_test(t, what_the_guest_gave_up_stays_so);
	tcase_add_test(t, a_failure_later_on_does_not_end_the_job);
	tcase_add_test(t, restored);
	tcase_add_test(t, restored_with_a_growth);
	tcase_add_test(t, restored_with_a_shrinking);
	return t;
}
