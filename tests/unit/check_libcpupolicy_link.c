/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The connection of libcpupolicy: registration, refusal, loss, return. check_libcpupolicy_hostile.c has a daemon that does
 * not keep to the protocol.
 */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fakedaemon.h"

static struct fake fake, *const f = &fake;

static void setup(void)
{
	fake_open(f, FAKE_VCPUS);
}

static void teardown(void)
{
	fake_close(f);
}

static void start(void)
{
	ck_assert_int_eq(cpupolicy_start_path(f->c, f->path), 0);
}

static enum cpupolicy_answer cpu_on(uint32_t target)
{
	enum cpupolicy_reason reason;

	return cpupolicy_cpu_on(f->c, 0, target, CPUPOLICY_PSCI_CPU_ON_64, &reason);
}

static void expect_answer(uint32_t target, enum cpupolicy_answer answer, enum cpupolicy_reason reason)
{
	enum cpupolicy_reason got = CPUPOLICY_REASON_MAX + 1;

	ck_assert_int_eq(cpupolicy_cpu_on(f->c, 0, target, CPUPOLICY_PSCI_CPU_ON_64, &got), answer);
	ck_assert_str_eq(cpupolicy_reason_name(got), cpupolicy_reason_name(reason));
}

static void until_lost(void)
{
	fake_until(f, cpupolicy_link(f->c) != CPUPOLICY_LINK_REGISTERED && f->link_changes > 1);
}

/* ---- registration ---- */

START_TEST(a_registration_says_who_and_what)
{
	int fd = cpupolicy_get_fd(f->c);
	uint32_t epoch, generation;

	f->flags[0] = CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ENABLED;
	f->flags[3] = CPUPOLICY_VCPU_ENABLED;
	f->run_state = CPUPOLICY_RUN_PAUSED;
	ck_assert_int_eq(cpupolicy_link(f->c), CPUPOLICY_LINK_CONNECTING);
	start();
	ck_assert_int_eq(cpupolicy_start_path(f->c, f->path), -EALREADY);
	fake_accept(f);
	fake_expect(f, CPUPOLICY_HELLO);
	ck_assert_uint_eq(f->m.hello.features, CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING);
	fake_reply(f, &(struct cpupolicy_hello_reply){.max_vcpus = FAKE_VCPUS});
	f->state = CPUPOLICY_MSG_GREETED;
	fake_expect(f, CPUPOLICY_REGISTER);
	ck_assert_uint_eq(f->m.reg.head.uuid[2], 3);
	ck_assert_uint_eq(f->m.reg.head.token[0], 0);
	ck_assert_str_eq(f->m.reg.head.name, "vm");
	ck_assert_uint_eq(f->m.reg.head.flags, CPUPOLICY_REG_NOTIFY);
	ck_assert_uint_eq(f->m.reg.head.possible, FAKE_VCPUS);
	ck_assert_uint_eq(f->m.reg.head.boot, FAKE_BOOT);
	ck_assert_uint_eq(f->m.reg.head.run_state, CPUPOLICY_RUN_PAUSED);
	for (uint32_t i = 0; i < FAKE_VCPUS; i++) {
		ck_assert_uint_eq(f->m.reg.vcpus[i].mpidr, i);
		ck_assert_uint_eq(f->m.reg.vcpus[i].flags, f->flags[i]);
	}
	ck_assert_uint_eq(f->policy_changes, 0);
	fake_admit(f);
	ck_assert_int_eq(cpupolicy_wait(f->c, 10000), 0);
	ck_assert_uint_eq(f->policy_changes, 1);
	ck_assert_uint_ge(f->link_changes, 1);
	ck_assert_str_eq(cpupolicy_link_name(cpupolicy_link(f->c)), "registered");
	cpupolicy_generation(f->c, &epoch, &generation);
	ck_assert_uint_eq(epoch, FAKE_EPOCH);
	ck_assert_uint_eq(generation, 1);
	ck_assert_int_eq(cpu_on(3), CPUPOLICY_ANSWER_ALLOW);
	ck_assert_int_eq(cpupolicy_get_fd(f->c), fd);
}
END_TEST

static unsigned count_inherited(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++) {
		int flags = fcntl(fd, F_GETFD);

		n += flags >= 0 && !(flags & FD_CLOEXEC);
	}
	return n;
}

START_TEST(nothing_is_left_to_programs_that_are_executed)
{
	unsigned inherited = count_inherited();

	start();
	fake_register(f);
	ck_assert_uint_eq(count_inherited(), inherited);
}
END_TEST

START_TEST(without_the_feature_nobody_is_asked)
{
	struct cpupolicy_page_word w = fake_granted(1);
	enum cpupolicy_reason reason;

	start();
	fake_accept(f);
	fake_expect(f, CPUPOLICY_HELLO);
	fake_reply(f, &(struct cpupolicy_hello_reply){.max_vcpus = 512});
	f->state = CPUPOLICY_MSG_GREETED;
	fake_expect(f, CPUPOLICY_REGISTER);
	fake_admit(f);
	ck_assert_int_eq(cpupolicy_wait(f->c, 10000), 0);
	w.verdict = CPUPOLICY_VERDICT_ASK;
	fake_store(f, 3, w);
	ck_assert_int_eq(cpupolicy_cpu_on(f->c, 0, 3, CPUPOLICY_PSCI_CPU_ON_64, &reason), CPUPOLICY_ANSWER_DENY);
	ck_assert_uint_eq(reason, CPUPOLICY_REASON_TIMEOUT);
}
END_TEST

START_TEST(replies_may_come_in_pieces)
{
	struct cpupolicy_hello_reply hello = {.features = CPUPOLICY_F_ASK, .max_vcpus = 512};
	struct cpupolicy_verdict granted = {CPUPOLICY_PSCI_SUCCESS, CPUPOLICY_REASON_GRANTED};
	struct cpupolicy_page_word w = fake_granted(1);
	uint8_t wire[3 * CPUPOLICY_MSG_MAX_REPLY];
	size_t n;

	w.verdict = CPUPOLICY_VERDICT_ASK;
	fake_store(f, 3, w);
	start();
	fake_accept(f);
	fake_expect(f, CPUPOLICY_HELLO);
	n = cpupolicy_msg_encode_reply(&f->header, &hello, wire);
	for (size_t i = 0; i < n; i++) {
		fake_send(f, wire + i, 1, NULL, 0);
		fake_run(f, -1, fake_now());
	}
	f->state = CPUPOLICY_MSG_GREETED;
	fake_expect(f, CPUPOLICY_REGISTER);
	fake_admit(f);
	ck_assert_int_eq(cpupolicy_wait(f->c, 10000), 0);
	fake_expect(f, CPUPOLICY_CONFIRM);

	/* And many in one. */
	n = 0;
	for (uint32_t caller = 0; caller < 3; caller++) {
		enum cpupolicy_reason reason;

		ck_assert_int_eq(cpupolicy_cpu_on(f->c, caller, 3, CPUPOLICY_PSCI_CPU_ON_32, &reason),
				 CPUPOLICY_ANSWER_ASKED);
		fake_expect(f, CPUPOLICY_ASK);
		n += cpupolicy_msg_encode_reply(&f->header, &granted, wire + n);
	}
	fake_send(f, wire, n, NULL, 0);
	fake_until(f, f->n_verdicts == 3);
}
END_TEST

START_TEST(what_happens_meanwhile_is_told_after_the_registration)
{
	uint8_t byte;

	start();
	fake_greet(f);
	ck_assert(!cpupolicy_power_on(f->c, 3, CPUPOLICY_REASON_GRANTED));
	cpupolicy_power_off(f->c, 2);
	cpupolicy_run_state(f->c, CPUPOLICY_RUN_PAUSED);
	ck_assert_int_eq(cpupolicy_dispatch(f->c), 0);
	ck_assert_int_lt(recv(f->fd, &byte, 1, MSG_DONTWAIT), 0);
	fake_admit(f);
	fake_expect(f, CPUPOLICY_POWER);
	ck_assert_uint_eq(f->m.power.event, CPUPOLICY_POWER_OFF);
	ck_assert_uint_eq(f->m.power.vcpu, 2);
	fake_expect(f, CPUPOLICY_RUN_STATE);
	fake_expect(f, CPUPOLICY_CONFIRM);
	fake_expect(f, CPUPOLICY_POWER);
	ck_assert_uint_eq(f->m.power.event, CPUPOLICY_POWER_DENIED);
	ck_assert_uint_eq(f->m.power.vcpu, 3);
}
END_TEST

START_TEST(largest_vm_registers)
{
	fake_close(f);
	fake_open(f, CPUPOLICY_MAX_VCPUS);
	start();
	fake_register(f);
	fake_store(f, 511, fake_granted(1));
	ck_assert_int_eq(cpu_on(511), CPUPOLICY_ANSWER_ALLOW);
	ck_assert_int_eq(cpu_on(510), CPUPOLICY_ANSWER_DENY);
	cpupolicy_resync(f->c);
	fake_expect(f, CPUPOLICY_POWER);
	fake_expect(f, CPUPOLICY_STATE);
}
END_TEST

START_TEST(paths_have_bounds)
{
	char path[200];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(cpupolicy_start_path(f->c, path), -ENAMETOOLONG);
	ck_assert_int_eq(cpupolicy_start_path(f->c, ""), -EINVAL);
	start();
}
END_TEST

/* ---- refusal ---- */

START_TEST(a_refusal_is_told)
{
	static const struct {
		enum cpupolicy_error_code code;
		enum cpupolicy_link link;
	} cases[] = {
		{CPUPOLICY_ERROR_PROTOCOL, CPUPOLICY_LINK_REFUSED},
		{CPUPOLICY_ERROR_UNSUPPORTED, CPUPOLICY_LINK_REFUSED},
		{CPUPOLICY_ERROR_IDENTITY, CPUPOLICY_LINK_REFUSED},
		{CPUPOLICY_ERROR_LIMIT, CPUPOLICY_LINK_REFUSED},
		{CPUPOLICY_ERROR_STORAGE, CPUPOLICY_LINK_CONNECTING},
		{CPUPOLICY_ERROR_BUSY, CPUPOLICY_LINK_CONNECTING},
	};

	start();
	fake_greet(f);
	fake_error(f, cases[_i].code, "The reason.");
	fake_until(f, strcmp(cpupolicy_link_reason(f->c), "The reason.") == 0);
	ck_assert_int_eq(cpupolicy_link(f->c), cases[_i].link);
	fake_expect_end(f);
	ck_assert_int_eq(cpu_on(1), CPUPOLICY_ANSWER_DENY);
	if (cases[_i].link == CPUPOLICY_LINK_REFUSED)
		ck_assert_int_eq(cpupolicy_wait(f->c, -1), -EACCES);
	else
		ck_assert_int_eq(cpupolicy_wait(f->c, 1), -ETIMEDOUT);

	/* Refused or not, it is tried again. */
	fake_register(f);
}
END_TEST

START_TEST(too_many_vcpus_are_not_even_tried)
{
	start();
	fake_accept(f);
	fake_expect(f, CPUPOLICY_HELLO);
	fake_reply(f, &(struct cpupolicy_hello_reply){.max_vcpus = FAKE_VCPUS - 1});
	ck_assert_int_eq(cpupolicy_wait(f->c, 10000), -EACCES);
	fake_expect_end(f);
}
END_TEST

/* ---- loss and return ---- */

START_TEST(a_lost_daemon_leaves_its_policy)
{
	unsigned states;

	start();
	fake_register(f);
	fake_store(f, 4, fake_granted(1));
	states = f->states;
	fake_hangup(f);
	until_lost();
	ck_assert_int_eq(cpupolicy_link(f->c), CPUPOLICY_LINK_CONNECTING);
	ck_assert_int_eq(cpu_on(3), CPUPOLICY_ANSWER_ALLOW);
	ck_assert(cpupolicy_power_on(f->c, 3, CPUPOLICY_REASON_GRANTED));
	ck_assert_int_eq(cpu_on(4), CPUPOLICY_ANSWER_ALLOW);
	ck_assert_int_eq(cpu_on(5), CPUPOLICY_ANSWER_DENY);
	ck_assert_int_eq(cpu_on(5), CPUPOLICY_ANSWER_DENY);

	/* It comes back with a page of its own; the VMM tells it what is, and what was denied. */
	f->flags[3] = CPUPOLICY_VCPU_ONLINE;
	fake_new_page(f, FAKE_EPOCH + 1);
	fake_greet(f);
	ck_assert_uint_eq(f->states, states + 1);
	ck_assert_uint_eq(f->m.reg.head.token[0], 't');
	ck_assert_uint_eq(f->m.reg.head.flags, CPUPOLICY_REG_NOTIFY);
	ck_assert_uint_eq(f->m.reg.vcpus[3].flags, CPUPOLICY_VCPU_ONLINE);
	ck_assert_int_eq(cpu_on(4), CPUPOLICY_ANSWER_ALLOW);
	fake_admit(f);
	fake_expect(f, CPUPOLICY_CONFIRM);
	ck_assert_uint_eq(f->m.confirm.epoch, FAKE_EPOCH + 1);
	fake_expect(f, CPUPOLICY_POWER);
	ck_assert_uint_eq(f->m.power.event, CPUPOLICY_POWER_DENIED);
	ck_assert_uint_eq(f->m.power.count, 2);
	ck_assert_int_eq(cpu_on(4), CPUPOLICY_ANSWER_DENY);
}
END_TEST

/* A snapshot may say less than a lost daemon was told: what the guest gave back stays given back. */
START_TEST(a_mark_is_taken_off_only_under_a_live_policy)
{
	start();
	fake_register(f);
	cpupolicy_ejected(f->c, 3, CPUPOLICY_EJECT_GUEST);
	fake_hangup(f);
	until_lost();
	cpupolicy_restore_ejected(f->c, 3, false);
	ck_assert_int_eq(cpu_on(3), CPUPOLICY_ANSWER_DENY);
	fake_greet(f);
	cpupolicy_restore_ejected(f->c, 3, false);
	ck_assert_int_eq(cpu_on(3), CPUPOLICY_ANSWER_DENY);
}
END_TEST

START_TEST(the_daemon_may_come_late)
{
	unlink(f->path);
	start();
	ck_assert_int_eq(cpupolicy_wait(f->c, 50), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(cpupolicy_link_reason(f->c), f->path));
	ck_assert_int_eq(cpu_on(1), CPUPOLICY_ANSWER_DENY);
	close(f->listener);
	fake_listen(f);
	ck_assert_str_ne(cpupolicy_link_reason(f->c), "registered");
	fake_register(f);
}
END_TEST

START_TEST(retries_slow_down)
{
	uint64_t since = fake_now();
	unsigned n = 0;

	start();
	while (fake_now() - since < UINT64_C(1000000000)) {
		fake_accept(f);
		fake_hangup(f);
		n++;
	}
	/* 100, 200, 400, 800 ms, each less a quarter at most. */
	ck_assert_uint_ge(n, 3);
	ck_assert_uint_le(n, 6);
}
END_TEST

START_TEST(a_closed_doorbell_ends_the_session)
{
	start();
	fake_register(f);
	close(f->doorbell);
	f->doorbell = -1;
	until_lost();
	fake_expect_end(f);
	fake_register(f);
}
END_TEST

START_TEST(a_last_word_is_heard)
{
	start();
	fake_register(f);
	fake_error(f, CPUPOLICY_ERROR_PROTOCOL, "You said something wrong.");
	fake_hangup(f);
	/* The VMM finds out by writing, and reads what was said before. */
	for (int i = 0; i < 10; i++)
		cpupolicy_ost(f->c, 1, 1, 0);
	until_lost();
	ck_assert_str_eq(cpupolicy_link_reason(f->c), "You said something wrong.");
}
END_TEST

START_TEST(a_farewell_is_sent)
{
	start();
	fake_register(f);
	cpupolicy_unregister(f->c, CPUPOLICY_UNREGISTER_MIGRATED, 1000);
	f->c = cpupolicy_free(f->c);
	ck_assert_uint_eq(fake_drain(f), 16 + 8);
	ck_assert_uint_eq(f->header.request, CPUPOLICY_UNREGISTER);
	ck_assert_uint_eq(f->m.unregister.cause, CPUPOLICY_UNREGISTER_MIGRATED);
}
END_TEST

START_TEST(a_farewell_waits_for_room_but_not_for_long)
{
	uint64_t since;

	start();
	fake_register(f);
	for (int i = 0; i < 100000; i++)
		cpupolicy_ost(f->c, 1, 1, 0);
	since = fake_now();
	cpupolicy_unregister(f->c, CPUPOLICY_UNREGISTER_SHUTDOWN, 20);
	ck_assert_uint_ge(fake_now() - since, UINT64_C(20000000));
	ck_assert_int_eq(cpupolicy_wait(f->c, -1), -ENOTCONN);
}
END_TEST

START_TEST(a_crash_says_nothing)
{
	start();
	fake_register(f);
	f->c = cpupolicy_free(f->c);
	ck_assert_uint_eq(fake_drain(f), 0);
}
END_TEST

/* ---- a connection that was handed over ---- */

START_TEST(a_handed_over_connection_is_used_once)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f->fd = pair[0];
	f->state = CPUPOLICY_MSG_GREETING;
	ck_assert_int_eq(cpupolicy_start_fd(f->c, pair[1]), 0);
	ck_assert(fcntl(pair[1], F_GETFD) & FD_CLOEXEC);
	fake_expect(f, CPUPOLICY_HELLO);
	fake_reply(f, &(struct cpupolicy_hello_reply){.max_vcpus = 512});
	f->state = CPUPOLICY_MSG_GREETED;
	fake_expect(f, CPUPOLICY_REGISTER);
	fake_admit(f);
	ck_assert_int_eq(cpupolicy_wait(f->c, 10000), 0);
	fake_hangup(f);
	until_lost();
	ck_assert_int_eq(cpupolicy_wait(f->c, -1), -ENOTCONN);
	ck_assert_int_eq(cpu_on(3), CPUPOLICY_ANSWER_ALLOW);
	ck_assert_int_eq(cpu_on(4), CPUPOLICY_ANSWER_DENY);
}
END_TEST

START_TEST(what_is_handed_over_must_be_a_stream)
{
	int fd = memfd_create("x", MFD_CLOEXEC), pair[2];

	ck_assert_int_eq(cpupolicy_start_fd(f->c, fd), -ENOTSOCK);
	ck_assert_int_lt(fcntl(fd, F_GETFD), 0);
	ck_assert_int_eq(cpupolicy_start_fd(f->c, -1), -EBADF);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(cpupolicy_start_fd(f->c, pair[0]), -EPROTOTYPE);
	ck_assert_int_lt(fcntl(pair[0], F_GETFD), 0);
	start();
	ck_assert_int_eq(cpupolicy_start_fd(f->c, pair[1]), -EALREADY);
	ck_assert_int_lt(fcntl(pair[1], F_GETFD), 0);
}
END_TEST

/* ---- local policy ---- */

START_TEST(local_policy_is_the_callers)
{
	struct cpupolicy_view view;
	unsigned changes;

	ck_assert_int_eq(cpupolicy_local_set(f->c, 4, true), -EPERM);
	ck_assert_int_eq(cpupolicy_start_local(f->c), 0);
	ck_assert_int_eq(cpupolicy_start_path(f->c, f->path), -EALREADY);
	ck_assert_int_eq(cpupolicy_wait(f->c, -1), 0);
	ck_assert_int_eq(cpupolicy_link(f->c), CPUPOLICY_LINK_LOCAL);
	ck_assert_uint_eq(f->policy_changes, 1);
	for (uint32_t i = 0; i < FAKE_VCPUS; i++) {
		cpupolicy_view(f->c, i, &view);
		ck_assert_int_eq(view.enabled, i < FAKE_BOOT);
		ck_assert_int_eq(view.wanted, i < FAKE_BOOT);
	}
	expect_answer(3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	expect_answer(4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NOT_ENABLED);

	changes = f->policy_changes;
	ck_assert_int_eq(cpupolicy_local_set(f->c, 4, true), 0);
	ck_assert_uint_eq(f->policy_changes, changes);
	fake_until(f, f->policy_changes == changes + 1);
	expect_answer(4, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);

	ck_assert_int_eq(cpupolicy_local_set(f->c, 4, false), 0);
	cpupolicy_view(f->c, 4, &view);
	ck_assert(view.enabled && !view.wanted);
	cpupolicy_ejected(f->c, 4, CPUPOLICY_EJECT_REQUESTED);
	expect_answer(4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_EJECTED);
	ck_assert_int_eq(cpupolicy_local_set(f->c, 4, true), 0);
	expect_answer(4, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);

	ck_assert_int_eq(cpupolicy_local_set(f->c, 0, false), -EINVAL);
	ck_assert_int_eq(cpupolicy_local_set(f->c, FAKE_VCPUS, true), -EINVAL);
}
END_TEST

START_TEST(break_glass_lasts_until_the_daemon_is_back)
{
	struct cpupolicy_view view;
	struct cpupolicy_page_word ask = fake_granted(1);

	start();
	fake_register(f);
	ck_assert_int_eq(cpupolicy_local_begin(f->c), -EBUSY);
	ask.verdict = CPUPOLICY_VERDICT_ASK;
	fake_store(f, 5, ask);
	cpupolicy_ejected(f->c, 2, CPUPOLICY_EJECT_GUEST);
	fake_hangup(f);
	fake_until(f, cpupolicy_link(f->c) == CPUPOLICY_LINK_CONNECTING);
	ck_assert_int_eq(cpupolicy_local_begin(f->c), 0);
	ck_assert_int_eq(cpupolicy_local_begin(f->c), 0);
	ck_assert_int_eq(cpupolicy_link(f->c), CPUPOLICY_LINK_LOCAL);

	/* The words are those that were. */
	expect_answer(2, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_EJECTED);
	expect_answer(3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	expect_answer(5, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_TIMEOUT);
	ck_assert_int_eq(cpupolicy_local_set(f->c, 4, true), 0);
	expect_answer(4, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);

	fake_register(f);
	ck_assert_int_eq(cpupolicy_link(f->c), CPUPOLICY_LINK_REGISTERED);
	cpupolicy_view(f->c, 4, &view);
	ck_assert(!view.enabled);
	ck_assert_int_eq(cpupolicy_local_set(f->c, 4, true), -EPERM);
}
END_TEST

/* ---- migration ---- */

START_TEST(a_target_joins_with_the_token)
{
	struct cpupolicy_saved saved = {.token = {'m'}, .epoch = 3}, now;

	f->run_state = CPUPOLICY_RUN_INACTIVE;
	cpupolicy_save(f->c, &now);
	ck_assert_uint_eq(now.token[0], 0);
	ck_assert_int_eq(cpupolicy_restore(f->c, &saved), 0);
	cpupolicy_restore_ejected(f->c, 2, true);
	start();
	fake_greet(f);
	ck_assert_uint_eq(f->m.reg.head.flags, CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_INCOMING);
	ck_assert_uint_eq(f->m.reg.head.token[0], 'm');
	ck_assert_uint_eq(f->m.reg.head.run_state, CPUPOLICY_RUN_INACTIVE);
	ck_assert_uint_eq(f->m.reg.vcpus[2].flags, CPUPOLICY_VCPU_EJECTED);
	fake_admit(f);
	fake_expect(f, CPUPOLICY_CONFIRM);
	ck_assert_int_eq(cpupolicy_restore(f->c, &saved), -EALREADY);
	cpupolicy_save(f->c, &now);
	ck_assert_uint_eq(now.token[0], 't');
	ck_assert_uint_eq(now.epoch, FAKE_EPOCH);

	/* As long as the guest has not arrived, it joins again; from then on the VM is its own. */
	fake_hangup(f);
	fake_greet(f);
	ck_assert_uint_eq(f->m.reg.head.flags, CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_INCOMING);
	ck_assert_uint_eq(f->m.reg.head.token[0], 't');
	fake_admit(f);
	fake_expect(f, CPUPOLICY_CONFIRM);
	f->run_state = CPUPOLICY_RUN_RUNNING;
	cpupolicy_run_state(f->c, f->run_state);
	fake_expect(f, CPUPOLICY_RUN_STATE);
	fake_hangup(f);
	fake_greet(f);
	ck_assert_uint_eq(f->m.reg.head.flags, CPUPOLICY_REG_NOTIFY);
	ck_assert_uint_eq(f->m.reg.head.token[0], 't');
}
END_TEST

START_TEST(a_token_is_no_claim_where_nobody_can_join)
{
	struct cpupolicy_saved saved = {.token = {'m'}};

	ck_assert_int_eq(cpupolicy_restore(f->c, &saved), 0);
	start();
	fake_accept(f);
	fake_expect(f, CPUPOLICY_HELLO);
	fake_reply(f, &(struct cpupolicy_hello_reply){.max_vcpus = 512});
	f->state = CPUPOLICY_MSG_GREETED;
	fake_expect(f, CPUPOLICY_REGISTER);
	ck_assert_uint_eq(f->m.reg.head.flags, CPUPOLICY_REG_NOTIFY);
	ck_assert_uint_eq(f->m.reg.head.token[0], 0);
}
END_TEST

START_TEST(a_token_that_comes_late_is_used_at_once)
{
	struct cpupolicy_saved saved = {.token = {'m'}};
	uint64_t since = fake_now();

	start();
	fake_greet(f);
	ck_assert_int_eq(cpupolicy_restore(f->c, &saved), 0);
	fake_error(f, CPUPOLICY_ERROR_IDENTITY, "A VM with this UUID runs.");
	fake_expect_end(f);
	fake_greet(f);
	ck_assert(f->m.reg.head.flags & CPUPOLICY_REG_INCOMING);
	ck_assert_uint_lt(fake_now() - since, UINT64_C(3000000000));
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("libcpupolicy, link");
	TCase *tcase = tcase_create("link");

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_registration_says_who_and_what);
	tcase_add_test(tcase, nothing_is_left_to_programs_that_are_executed);
	tcase_add_test(tcase, without_the_feature_nobody_is_asked);
	tcase_add_test(tcase, replies_may_come_in_pieces);
	tcase_add_test(tcase, what_happens_meanwhile_is_told_after_the_registration);
	tcase_add_test(tcase, largest_vm_registers);
	tcase_add_test(tcase, paths_have_bounds);
	tcase_add_loop_test(tcase, a_refusal_is_told, 0, 6);
	tcase_add_test(tcase, too_many_vcpus_are_not_even_tried);
	tcase_add_test(tcase, a_lost_daemon_leaves_its_policy);
	tcase_add_test(tcase, a_mark_is_taken_off_only_under_a_live_policy);
	tcase_add_test(tcase, the_daemon_may_come_late);
	tcase_add_test(tcase, retries_slow_down);
	tcase_add_test(tcase, a_closed_doorbell_ends_the_session);
	tcase_add_test(tcase, a_last_word_is_heard);
	tcase_add_test(tcase, a_farewell_is_sent);
	tcase_add_test(tcase, a_farewell_waits_for_room_but_not_for_long);
	tcase_add_test(tcase, a_crash_says_nothing);
	tcase_add_test(tcase, a_handed_over_connection_is_used_once);
	tcase_add_test(tcase, what_is_handed_over_must_be_a_stream);
	tcase_add_test(tcase, local_policy_is_the_callers);
	tcase_add_test(tcase, break_glass_lasts_until_the_daemon_is_back);
	tcase_add_test(tcase, a_target_joins_with_the_token);
	tcase_add_test(tcase, a_token_is_no_claim_where_nobody_can_join);
	tcase_add_test(tcase, a_token_that_comes_late_is_used_at_once);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(make_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
