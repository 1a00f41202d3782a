/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The completion of realms' PSCI calls (qemu-glue/hw/realm.c) against a model of the RMM, at the ioctls. Random realms:
 * guests that start and stop vCPUs, a policy that changes its mind and is slow to tell it, a VM that is stopped and
 * replaced. The RMM must never have to refuse anything, and the guest gets what the RMM would give it.
 * CPUPOLICY_TEST_SEED and CPUPOLICY_TEST_EVENTS choose what is tried.
 */

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "qemu-glue/hw/realm.h"
#include "qemu-glue/hw/rmi.h"
#include "tests/unit/rmm_model.h"

#define ENTRY 0x40000000u

/* ck_assert() writes to a file each time, which is too slow for what is asked a million times. */
#define HOLDS(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			ck_abort_msg("line %d: not %s", __LINE__, #condition);                                         \
	} while (0)

/* Where a vCPU's thread is. */
enum place {
	READY,   /* may enter the guest */
	INSIDE,  /* in the guest */
	LEAVING, /* on its way out, the RMM has seen its call */
	EXITED,  /* out, and the host has not looked yet */
	WAITING, /* its call is not completed */
	OFF,
};

enum word { NOTHING, ASKED, SAID_YES, SAID_NO };

struct lab {
	struct rmm rmm;
	struct cpu_policy_realm realm;
	struct cpu_policy_realm_vcpu vcpus[RMM_RECS_MAX];
	enum place place[RMM_RECS_MAX];
	bool called[RMM_RECS_MAX];                 /* a call's answer is to be looked at */
	bool wait_for[RMM_RECS_MAX][RMM_RECS_MAX]; /* [vCPU][who waits for it to be quiet] */
	enum word word[RMM_RECS_MAX];              /* the daemon's, on the call of this vCPU */
	bool granted[RMM_RECS_MAX];
	bool asks; /* the daemon is asked about each call */
	unsigned allowed, denied, waited_for_quiet, waited_for_word;
	uint64_t random;
};

static uint64_t below(struct lab *lab, uint64_t n)
{
	lab->random ^= lab->random << 13;
	lab->random ^= lab->random >> 7;
	lab->random ^= lab->random << 17;
	return (lab->random >> 11) % n;
}

/* ---- the host ---- */

static int on_vm_ioctl(void *opaque, unsigned long request, uintptr_t arg)
{
	struct lab *lab = opaque;

	return rmm_vm_ioctl(&lab->rmm, request, arg);
}

static int on_vcpu_ioctl(void *opaque, uint32_t vcpu, unsigned long request, void *arg)
{
	struct lab *lab = opaque;

	return rmm_vcpu_ioctl(&lab->rmm, vcpu, request, arg);
}

static bool on_quiet(void *opaque, uint32_t vcpu, uint32_t waiter)
{
	struct lab *lab = opaque;
	enum place place = lab->place[vcpu];

	if (place != INSIDE && place != LEAVING && place != EXITED)
		return true;
	lab->wait_for[vcpu][waiter] = true;
	lab->waited_for_quiet++;
	return false;
}

static enum cpu_policy_realm_decision on_decide(void *opaque, uint32_t caller, uint32_t target, uint32_t function)
{
	struct lab *lab = opaque;
	enum word word = lab->word[caller];

	HOLDS(function == RMM_PSCI_CPU_ON || function == RMM_PSCI_CPU_ON_32);
	if (word == ASKED)
		return CPU_POLICY_REALM_ASKED;
	if (word == NOTHING && lab->asks) {
		lab->word[caller] = ASKED;
		lab->waited_for_word++;
		return CPU_POLICY_REALM_ASKED;
	}
	lab->word[caller] = NOTHING;
	/* The page has the last word. */
	if (word == SAID_NO || !lab->granted[target]) {
		lab->denied++;
		return CPU_POLICY_REALM_DENIED;
	}
	lab->allowed++;
	return CPU_POLICY_REALM_ALLOWED;
}

static void on_started(void *opaque, uint32_t vcpu)
{
	struct lab *lab = opaque;

	HOLDS(lab->place[vcpu] == OFF);
	HOLDS(!lab->rmm.recs[vcpu].stopped);
	lab->place[vcpu] = READY;
}

static void on_stopped(void *opaque, uint32_t vcpu)
{
	struct lab *lab = opaque;

	HOLDS(lab->rmm.recs[vcpu].stopped);
}

static const struct cpu_policy_realm_ops ops = {
	.vm_ioctl = on_vm_ioctl,
	.vcpu_ioctl = on_vcpu_ioctl,
	.quiet = on_quiet,
	.decide = on_decide,
	.started = on_started,
	.stopped = on_stopped,
};

static void make(struct lab *lab, uint32_t n)
{
	rmm_init(&lab->rmm, n);
	for (uint32_t i = 0; i < n; i++) {
		lab->vcpus[i].mpidr = lab->rmm.recs[i].mpidr;
		lab->place[i] = i == 0 ? READY : OFF;
		lab->word[i] = NOTHING;
		lab->called[i] = false;
	}
	memset(lab->wait_for, 0, sizeof(lab->wait_for));
	lab->allowed = lab->denied = 0;
	cpu_policy_realm_init(&lab->realm, &ops, lab, lab->vcpus, n);
}

static void settle(struct lab *lab, uint32_t vcpu, int outcome)
{
	static const enum place places[] = {
		[CPU_POLICY_REALM_RUN] = READY,        [CPU_POLICY_REALM_WAIT] = WAITING,
		[CPU_POLICY_REALM_OFF] = OFF,          [CPU_POLICY_REALM_SYSTEM_OFF] = OFF,
		[CPU_POLICY_REALM_SYSTEM_RESET] = OFF,
	};

	HOLDS(outcome >= 0);
	lab->place[vcpu] = places[outcome];
}

static void again(struct lab *lab, uint32_t vcpu)
{
	if (lab->place[vcpu] == WAITING)
		settle(lab, vcpu, cpu_policy_realm_again(&lab->realm, vcpu));
}

/* That vCPU is out, and looked at: whoever waited for it goes on. */
static void quieted(struct lab *lab, uint32_t vcpu)
{
	for (uint32_t i = 0; i < lab->rmm.n; i++) {
		if (lab->wait_for[vcpu][i]) {
			lab->wait_for[vcpu][i] = false;
			again(lab, i);
		}
	}
}

/* ---- the guest ---- */

static void look_at_answer(struct lab *lab, uint32_t vcpu)
{
	const struct rmm_rec *rec = &lab->rmm.recs[vcpu];

	if (!lab->called[vcpu])
		return;
	lab->called[vcpu] = false;
	HOLDS(rec->x0 == RMM_PSCI_SUCCESS || rec->x0 == RMM_PSCI_DENIED || rec->x0 == RMM_PSCI_ALREADY_ON ||
	      rec->x0 == RMM_AFFINITY_OFF);
}

static void enter(struct lab *lab, uint32_t vcpu)
{
	HOLDS(rmm_enter(&lab->rmm, vcpu) == RMM_SUCCESS);
	HOLDS(!lab->rmm.recs[vcpu].stopped);
	lab->place[vcpu] = INSIDE;
	look_at_answer(lab, vcpu);
}

static bool call_cpu_on(struct lab *lab, uint32_t vcpu)
{
	uint64_t target = lab->rmm.recs[below(lab, lab->rmm.n)].mpidr;
	uint64_t function = below(lab, 2) ? RMM_PSCI_CPU_ON : RMM_PSCI_CPU_ON_32;
	uint64_t entry = ENTRY;

	switch (below(lab, 12)) {
	case 0:
		target = 0x00ffffff;
		break;
	case 1:
		entry = RMM_PROTECTED_END;
		break;
	case 2:
		function |= UINT64_C(1) << 32;
		break;
	default:
		break;
	}
	return rmm_call(&lab->rmm, vcpu, function, target, entry, vcpu);
}

static void call(struct lab *lab, uint32_t vcpu)
{
	struct rmm *rmm = &lab->rmm;
	bool leaves;

	switch (below(lab, 10)) {
	case 0:
		/* Somebody stays, to start the others. */
		leaves = vcpu != 0 && rmm_call(rmm, vcpu, RMM_PSCI_CPU_OFF, 0, 0, 0);
		break;
	case 1:
		leaves = rmm_call(rmm, vcpu, RMM_PSCI_CPU_SUSPEND, 0, ENTRY, 0);
		break;
	case 2:
	case 3:
		leaves = rmm_call(rmm, vcpu, RMM_PSCI_AFFINITY_INFO, rmm->recs[below(lab, rmm->n)].mpidr,
				  below(lab, 8) == 0, 0);
		break;
	default:
		leaves = call_cpu_on(lab, vcpu);
		break;
	}
	lab->called[vcpu] = leaves && rmm->recs[vcpu].pending;
	if (leaves)
		lab->place[vcpu] = LEAVING;
}

static void inside(struct lab *lab, uint32_t vcpu, bool may_call)
{
	if (may_call && below(lab, 3) != 0) {
		call(lab, vcpu);
		return;
	}
	/* an interrupt, or a kick: nothing to look at */
	rmm_leave(&lab->rmm, vcpu);
	lab->place[vcpu] = READY;
	quieted(lab, vcpu);
}

static void look(struct lab *lab, uint32_t vcpu)
{
	const struct rmm_rec *rec = &lab->rmm.recs[vcpu];

	settle(lab, vcpu, cpu_policy_realm_call(&lab->realm, vcpu, rec->exit[0], rec->exit[1]));
	quieted(lab, vcpu);
}

static void move(struct lab *lab, uint32_t vcpu, bool may_call)
{
	switch (lab->place[vcpu]) {
	case READY:
		enter(lab, vcpu);
		break;
	case INSIDE:
		inside(lab, vcpu, may_call);
		break;
	case LEAVING:
		rmm_leave(&lab->rmm, vcpu);
		lab->place[vcpu] = EXITED;
		break;
	case EXITED:
		look(lab, vcpu);
		break;
	default:
		break;
	}
}

/* ---- the daemon ---- */

static void tell(struct lab *lab, uint32_t vcpu)
{
	if (lab->word[vcpu] != ASKED)
		return;
	lab->word[vcpu] = below(lab, 2) ? SAID_YES : SAID_NO;
	again(lab, vcpu);
}

/* What was asked is forgotten, the calls are not. */
static void stop_and_go_on(struct lab *lab)
{
	for (uint32_t i = 0; i < lab->rmm.n; i++)
		lab->word[i] = NOTHING;
	for (uint32_t i = 0; i < lab->rmm.n; i++)
		again(lab, i);
}

/* ---- what always holds ---- */

static void check(struct lab *lab)
{
	HOLDS(lab->rmm.refused == 0);
	HOLDS(lab->rmm.foreign == 0);
	HOLDS(lab->rmm.started == lab->allowed);
	HOLDS(lab->rmm.denied == lab->denied);
	for (uint32_t i = 0; i < lab->rmm.n; i++) {
		const struct rmm_rec *rec = &lab->rmm.recs[i];
		bool known = lab->place[i] != LEAVING && lab->place[i] != EXITED;

		HOLDS(rec->stopped == !cpu_policy_realm_is_on(&lab->realm, i));
		HOLDS(!known || rec->runnable == cpu_policy_realm_is_on(&lab->realm, i));
		HOLDS(!known || rec->pending == (lab->place[i] == WAITING));
	}
}

static bool all_done(const struct lab *lab)
{
	for (uint32_t i = 0; i < lab->rmm.n; i++)
		if (lab->place[i] == WAITING || lab->place[i] == LEAVING || lab->place[i] == EXITED)
			return false;
	return true;
}

/* Nobody waits for ever. */
static void drain(struct lab *lab)
{
	for (unsigned round = 0; !all_done(lab); round++) {
		HOLDS(round < 100);
		for (uint32_t i = 0; i < lab->rmm.n; i++) {
			move(lab, i, false);
			tell(lab, i);
			check(lab);
		}
	}
}

static void step(struct lab *lab)
{
	uint32_t vcpu = (uint32_t)below(lab, lab->rmm.n);

	switch (below(lab, 40)) {
	case 0:
		lab->asks = below(lab, 3) != 0;
		break;
	case 1:
	case 2:
		lab->granted[vcpu] = !lab->granted[vcpu];
		break;
	case 3:
		stop_and_go_on(lab);
		break;
	case 4:
	case 5:
	case 6:
		tell(lab, vcpu);
		break;
	case 7:
		/* woken for nothing */
		HOLDS(lab->place[vcpu] == WAITING || cpu_policy_realm_again(&lab->realm, vcpu) == CPU_POLICY_REALM_RUN);
		break;
	default:
		move(lab, vcpu, true);
		break;
	}
	check(lab);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

START_TEST(rmm_never_has_to_refuse)
{
	uint64_t seed = from_environment("CPUPOLICY_TEST_SEED", (uint64_t)time(NULL));
	uint64_t events = from_environment("CPUPOLICY_TEST_EVENTS", 1000000);
	unsigned started = 0, denied = 0, already = 0;
	static struct lab lab;

	printf("CPUPOLICY_TEST_SEED=%" PRIu64 "\n", seed);
	lab.random = seed * 2654435761u + 88172645463325252u;
	for (uint64_t i = 0; i < events; i++) {
		if (i % 5000 == 0)
			make(&lab, 1 + (uint32_t)below(&lab, RMM_RECS_MAX));
		step(&lab);
		if (i % 5000 == 4999) {
			/* Half of them are replaced as they are, calls pending. */
			if (below(&lab, 2))
				drain(&lab);
			started += lab.rmm.started;
			denied += lab.rmm.denied;
			already += lab.rmm.already;
		}
	}
	HOLDS(started > 1000 && denied > 1000 && already > 1000);
	HOLDS(lab.waited_for_quiet > 1000 && lab.waited_for_word > 1000);
}
END_TEST

/* ---- by hand ---- */

static struct lab *two(void)
{
	static struct lab lab;

	lab = (struct lab){.random = 1, .granted = {true, true}};
	make(&lab, 2);
	return &lab;
}

static int cpu_on(struct lab *lab, uint32_t caller, uint32_t target)
{
	enter(lab, caller);
	ck_assert(rmm_call(&lab->rmm, caller, RMM_PSCI_CPU_ON, lab->rmm.recs[target].mpidr, ENTRY, 7));
	rmm_leave(&lab->rmm, caller);
	lab->place[caller] = EXITED;
	look(lab, caller);
	return lab->place[caller];
}

START_TEST(started_where_the_guest_said)
{
	struct lab *lab = two();

	ck_assert_int_eq(cpu_on(lab, 0, 1), READY);
	ck_assert_int_eq(lab->rmm.recs[0].x0, RMM_PSCI_SUCCESS);
	ck_assert(lab->rmm.recs[1].pc == ENTRY && lab->rmm.recs[1].x0 == 7);
	ck_assert_int_eq(lab->place[1], READY);
	enter(lab, 1);
}
END_TEST

START_TEST(denied_and_still_off)
{
	struct lab *lab = two();

	lab->granted[1] = false;
	ck_assert_int_eq(cpu_on(lab, 0, 1), READY);
	ck_assert_int_eq(lab->rmm.recs[0].x0, RMM_PSCI_DENIED);
	ck_assert_int_eq(lab->place[1], OFF);
	ck_assert(lab->rmm.recs[1].stopped);
}
END_TEST

START_TEST(one_that_leaves_is_looked_at_first)
{
	struct lab *lab = two();

	cpu_on(lab, 0, 1);
	enter(lab, 1);
	rmm_call(&lab->rmm, 1, RMM_PSCI_CPU_OFF, 0, 0, 0);
	rmm_leave(&lab->rmm, 1);
	lab->place[1] = EXITED;
	/* The RMM has it off, the host does not know. Policy takes it back in this moment. */
	lab->granted[1] = false;
	ck_assert_int_eq(cpu_on(lab, 0, 1), WAITING);
	look(lab, 1);
	ck_assert_int_eq(lab->place[0], READY);
	ck_assert_int_eq(lab->rmm.recs[0].x0, RMM_PSCI_DENIED);
	check(lab);
}
END_TEST

START_TEST(two_that_start_each_other)
{
	struct lab *lab = two();

	cpu_on(lab, 0, 1);
	enter(lab, 0);
	enter(lab, 1);
	for (uint32_t i = 0; i < 2; i++) {
		rmm_call(&lab->rmm, i, RMM_PSCI_CPU_ON, lab->rmm.recs[1 - i].mpidr, ENTRY, 0);
		rmm_leave(&lab->rmm, i);
		lab->place[i] = EXITED;
	}
	look(lab, 0);
	ck_assert_int_eq(lab->place[0], WAITING);
	look(lab, 1);
	ck_assert(lab->place[0] == READY && lab->place[1] == READY);
	ck_assert(lab->rmm.recs[0].x0 == RMM_PSCI_ALREADY_ON && lab->rmm.recs[1].x0 == RMM_PSCI_ALREADY_ON);
}
END_TEST

START_TEST(late_no_for_one_that_somebody_else_started)
{
	static struct lab lab;

	lab = (struct lab){.random = 1, .granted = {true, true, true}};
	make(&lab, 3);
	cpu_on(&lab, 0, 1);
	lab.asks = true;
	ck_assert_int_eq(cpu_on(&lab, 0, 2), WAITING);
	ck_assert_int_eq(cpu_on(&lab, 1, 2), WAITING);
	lab.word[1] = SAID_YES;
	again(&lab, 1);
	lab.word[0] = SAID_NO;
	again(&lab, 0);
	ck_assert_int_eq(lab.rmm.recs[1].x0, RMM_PSCI_SUCCESS);
	ck_assert_int_eq(lab.rmm.recs[0].x0, RMM_PSCI_ALREADY_ON);
	ck_assert_uint_eq(lab.rmm.refused, 0);
}
END_TEST

START_TEST(affinity_info_is_not_policy)
{
	struct lab *lab = two();

	lab->granted[1] = false;
	lab->asks = true;
	enter(lab, 0);
	ck_assert(rmm_call(&lab->rmm, 0, RMM_PSCI_AFFINITY_INFO, lab->rmm.recs[1].mpidr, 0, 0));
	rmm_leave(&lab->rmm, 0);
	look(lab, 0);
	ck_assert_int_eq(lab->place[0], READY);
	ck_assert_int_eq(lab->rmm.recs[0].x0, RMM_AFFINITY_OFF);
}
END_TEST

START_TEST(system_calls_end_the_realm)
{
	struct lab *lab = two();

	enter(lab, 0);
	rmm_call(&lab->rmm, 0, RMM_PSCI_SYSTEM_RESET, 0, 0, 0);
	rmm_leave(&lab->rmm, 0);
	ck_assert_int_eq(cpu_policy_realm_call(&lab->realm, 0, lab->rmm.recs[0].exit[0], 0),
			 CPU_POLICY_REALM_SYSTEM_RESET);
	ck_assert_int_eq(rmm_enter(&lab->rmm, 0), RMM_ERROR_REALM);

	lab = two();
	ck_assert_int_eq(cpu_policy_realm_call(&lab->realm, 0, RMM_PSCI_SYSTEM_OFF, 0), CPU_POLICY_REALM_SYSTEM_OFF);
}
END_TEST

START_TEST(unknown_target_stops_the_vm)
{
	struct lab *lab = two();

	ck_assert_int_eq(cpu_policy_realm_call(&lab->realm, 0, RMM_PSCI_CPU_ON, 0xffff), -ENXIO);
}
END_TEST

START_TEST(probe)
{
	struct lab *lab = two();

	ck_assert_int_eq(cpu_policy_realm_probe(&lab->realm), 1);
	lab->rmm.without_ioctl = true;
	ck_assert_int_eq(cpu_policy_realm_probe(&lab->realm), 0);
	lab->rmm.ordinary = true;
	ck_assert_int_eq(cpu_policy_realm_probe(&lab->realm), 0);
	ck_assert_uint_eq(lab->rmm.refused + lab->rmm.foreign, 0);
}
END_TEST

/* The model itself: it refuses what the RMM refuses. */
START_TEST(wrong_completions)
{
	struct cpu_policy_kvm_psci_complete request = {.target_mpidr = 1};
	struct lab *lab = two();
	struct rmm *rmm = &lab->rmm;

	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_SUCCESS), RMM_ERROR_INPUT); /* nothing pending */
	ck_assert_int_eq(rmm_enter(rmm, 1), RMM_ERROR_REC);                                /* off */
	ck_assert_int_eq(rmm_enter(rmm, 0), RMM_SUCCESS);
	rmm_call(rmm, 0, RMM_PSCI_CPU_ON, rmm->recs[1].mpidr, ENTRY, 0);
	ck_assert_int_eq(rmm_vcpu_ioctl(rmm, 0, CPU_POLICY_KVM_PSCI_COMPLETE, &request), -EBUSY); /* still inside */
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_SUCCESS), RMM_ERROR_INPUT);
	rmm_leave(rmm, 0);
	ck_assert_int_eq(rmm_enter(rmm, 0), RMM_ERROR_REC);                                /* before completion */
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 0, RMM_PSCI_SUCCESS), RMM_ERROR_INPUT); /* another target */
	ck_assert_int_eq(rmm_psci_complete(rmm, 1, 0, RMM_PSCI_SUCCESS), RMM_ERROR_INPUT); /* another caller */
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_ALREADY_ON), RMM_ERROR_INPUT);
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_INVALID_PARAMS), RMM_ERROR_INPUT);
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_SUCCESS), RMM_SUCCESS);
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_SUCCESS), RMM_ERROR_INPUT); /* twice */

	/* No, for one that is on: refused, and still pending. */
	rmm_enter(rmm, 0);
	rmm_call(rmm, 0, RMM_PSCI_CPU_ON, rmm->recs[1].mpidr, ENTRY, 0);
	rmm_leave(rmm, 0);
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_DENIED), RMM_ERROR_INPUT);
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_SUCCESS), RMM_SUCCESS);
	ck_assert_int_eq(rmm->recs[0].x0, RMM_PSCI_ALREADY_ON);

	rmm_enter(rmm, 0);
	rmm_call(rmm, 0, RMM_PSCI_AFFINITY_INFO, rmm->recs[1].mpidr, 0, 0);
	rmm_leave(rmm, 0);
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_DENIED), RMM_ERROR_INPUT);
	ck_assert_int_eq(rmm_psci_complete(rmm, 0, 1, RMM_PSCI_SUCCESS), RMM_SUCCESS);
	ck_assert_int_eq(rmm->recs[0].x0, RMM_AFFINITY_ON);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qemu_realm");
	TCase *tc = tcase_create("realm");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, rmm_never_has_to_refuse);
	tcase_add_test(tc, started_where_the_guest_said);
	tcase_add_test(tc, denied_and_still_off);
	tcase_add_test(tc, one_that_leaves_is_looked_at_first);
	tcase_add_test(tc, two_that_start_each_other);
	tcase_add_test(tc, late_no_for_one_that_somebody_else_started);
	tcase_add_test(tc, affinity_info_is_not_policy);
	tcase_add_test(tc, system_calls_end_the_realm);
	tcase_add_test(tc, unknown_target_stops_the_vm);
	tcase_add_test(tc, probe);
	tcase_add_test(tc, wrong_completions);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
