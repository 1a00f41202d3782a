/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * libcpupolicy against a daemon in the same thread: admission, asks, marks, and what the VMM reports.
 * check_libcpupolicy_link.c has the connection's life.
 */

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fakedaemon.h"

#define ON_64   CPUPOLICY_PSCI_CPU_ON_64
#define DENIED  CPUPOLICY_PSCI_DENIED
#define SUCCESS CPUPOLICY_PSCI_SUCCESS

static struct fake fake, *const f = &fake;

static void setup(void)
{
	fake_open(f, FAKE_VCPUS);
}

static void setup_registered(void)
{
	setup();
	ck_assert_int_eq(cpupolicy_start_path(f->c, f->path), 0);
	fake_register(f);
}

static void teardown(void)
{
	fake_close(f);
}

static void expect_answer(uint32_t caller, uint32_t target, enum cpupolicy_answer answer, enum cpupolicy_reason reason)
{
	enum cpupolicy_reason got = CPUPOLICY_REASON_MAX + 1;

	ck_assert_int_eq(cpupolicy_cpu_on(f->c, caller, target, ON_64, &got), answer);
	ck_assert_str_eq(cpupolicy_reason_name(got), cpupolicy_reason_name(reason));
}

static void expect_power(uint32_t vcpu, enum cpupolicy_power_event event, enum cpupolicy_reason reason, uint32_t count)
{
	fake_expect(f, CPUPOLICY_POWER);
	ck_assert_uint_eq(f->m.power.vcpu, vcpu);
	ck_assert_uint_eq(f->m.power.event, event);
	ck_assert_str_eq(cpupolicy_reason_name(f->m.power.reason), cpupolicy_reason_name(reason));
	ck_assert_uint_eq(f->m.power.count, count);
}

/* That nothing was sent up to now: a message of its own comes next. */
static void expect_nothing_before_marker(void)
{
	static uint32_t marker = 1000;

	cpupolicy_ost(f->c, 0, 1, ++marker);
	fake_expect(f, CPUPOLICY_OST);
	ck_assert_uint_eq(f->m.ost.status, marker);
}

static void expect_last(uint32_t vcpu, int32_t psci, enum cpupolicy_reason reason, uint64_t denied)
{
	struct cpupolicy_verdict last;
	uint64_t n;

	cpupolicy_last_verdict(f->c, vcpu, &last, &n);
	ck_assert_int_eq(last.psci, psci);
	ck_assert_str_eq(cpupolicy_reason_name(last.reason), cpupolicy_reason_name(reason));
	ck_assert_uint_eq(n, denied);
}

static void expect_verdict(unsigned i, uint32_t caller, uint32_t target, int32_t psci, enum cpupolicy_reason reason)
{
	fake_until(f, f->n_verdicts > i);
	ck_assert_uint_eq(f->n_verdicts, i + 1);
	ck_assert_uint_eq(f->verdicts[i].caller, caller);
	ck_assert_uint_eq(f->verdicts[i].target, target);
	ck_assert_int_eq(f->verdicts[i].verdict.psci, psci);
	ck_assert_str_eq(cpupolicy_reason_name(f->verdicts[i].verdict.reason), cpupolicy_reason_name(reason));
}

static void store_and_publish(uint32_t vcpu, struct cpupolicy_page_word word)
{
	fake_store(f, vcpu, word);
	fake_publish(f);
}

static struct cpupolicy_page_word asking(bool timeout_allow)
{
	struct cpupolicy_page_word w = fake_granted(3);

	w.verdict = CPUPOLICY_VERDICT_ASK;
	w.timeout_allow = timeout_allow;
	return w;
}

/* ---- identity ---- */

START_TEST(identity_has_bounds)
{
	static const struct cpupolicy_ops none;
	uint64_t mpidrs[] = {0, 1, 1};
	char name[257];
	struct cpupolicy_identity good = {.uuid = {1}, .name = "n", .possible = 2, .boot = 1, .mpidrs = mpidrs};
	struct cpupolicy_identity bad[10];
	struct cpupolicy *c = NULL;

	for (size_t i = 0; i < 10; i++)
		bad[i] = good;
	memset(name, 'x', 256);
	name[256] = '\0';
	bad[0].uuid[0] = 0;
	bad[1].name = "";
	bad[2].name = name;
	bad[3].name = "\xff";
	bad[4].possible = 0;
	bad[5].possible = CPUPOLICY_MAX_VCPUS + 1;
	bad[6].boot = 0;
	bad[7].boot = 3;
	bad[8].possible = 3; /* two of one MPIDR */
	bad[9].flags = CPUPOLICY_REG_INCOMING;
	for (size_t i = 0; i < 10; i++)
		ck_assert_int_eq(cpupolicy_new(&c, &bad[i], fake_ops(), f), -EINVAL);
	ck_assert_int_eq(cpupolicy_new(&c, &good, &none, f), -EINVAL);
	ck_assert_ptr_null(c);
}
END_TEST

/* ---- admission ---- */

START_TEST(without_a_page_only_vcpu_0_goes_on)
{
	struct cpupolicy_view view;
	uint32_t epoch, generation;

	expect_answer(1, 0, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	ck_assert(cpupolicy_power_on(f->c, 0, CPUPOLICY_REASON_GRANTED));
	for (uint32_t i = 1; i < FAKE_VCPUS; i++) {
		expect_answer(0, i, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NO_POLICY);
		ck_assert(!cpupolicy_power_on(f->c, i, CPUPOLICY_REASON_GRANTED));
		cpupolicy_view(f->c, i, &view);
		ck_assert(!view.enabled && !view.wanted && !view.ejected);
	}
	cpupolicy_view(f->c, 0, &view);
	ck_assert(view.enabled && view.wanted && !view.ejected);
	cpupolicy_generation(f->c, &epoch, &generation);
	ck_assert_uint_eq(epoch, 0);
	ck_assert_uint_eq(generation, 0);
}
END_TEST

START_TEST(the_page_decides)
{
	struct cpupolicy_page_word w = fake_granted(2);
	struct cpupolicy_view view;

	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	ck_assert(cpupolicy_power_on(f->c, 3, CPUPOLICY_REASON_GRANTED));
	expect_power(3, CPUPOLICY_POWER_ON, CPUPOLICY_REASON_GRANTED, 1);
	expect_last(3, SUCCESS, CPUPOLICY_REASON_GRANTED, 0);
	cpupolicy_power_off(f->c, 3);
	expect_power(3, CPUPOLICY_POWER_OFF, CPUPOLICY_REASON_NONE, 1);

	expect_answer(0, 4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NOT_ENABLED);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_NOT_ENABLED, 1);
	expect_last(4, DENIED, CPUPOLICY_REASON_NOT_ENABLED, 1);

	/* Enabled, and yet denied: enabled is what the guest sees, the verdict is what it gets. */
	w.verdict = CPUPOLICY_VERDICT_DENY;
	w.wanted = false;
	w.serial = 9;
	fake_store(f, 2, w);
	expect_answer(0, 2, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NOT_ENABLED);
	cpupolicy_view(f->c, 2, &view);
	ck_assert(view.enabled && !view.wanted && !view.ejected && !view.observe);
	ck_assert_uint_eq(view.serial, 9);
	ck_assert_uint_eq(view.grant, 2);
	ck_assert_int_eq(view.verdict, CPUPOLICY_VERDICT_DENY);

	cpupolicy_run_state(f->c, CPUPOLICY_RUN_INACTIVE);
	expect_answer(0, 2, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_INACTIVE);

	/* vCPU 0 is beyond policy. */
	fake_store(f, 0, (struct cpupolicy_page_word){0});
	expect_answer(1, 0, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	ck_assert(cpupolicy_power_on(f->c, 0, CPUPOLICY_REASON_GRANTED));
}
END_TEST

START_TEST(observe_denies_nothing)
{
	struct cpupolicy_page_word w = {.observe = true};

	fake_store(f, 4, w);
	expect_answer(0, 4, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_OBSERVED);
	ck_assert(cpupolicy_power_on(f->c, 4, CPUPOLICY_REASON_OBSERVED));
	expect_power(4, CPUPOLICY_POWER_ON, CPUPOLICY_REASON_OBSERVED, 1);
	expect_last(4, SUCCESS, CPUPOLICY_REASON_OBSERVED, 0);

	/* What would be allowed anyway is not "observed". */
	w = fake_granted(1);
	w.observe = true;
	fake_store(f, 3, w);
	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	cpupolicy_ejected(f->c, 3, CPUPOLICY_EJECT_GUEST);
	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_OBSERVED);
	ck_assert(cpupolicy_power_on(f->c, 3, CPUPOLICY_REASON_OBSERVED));
}
END_TEST

START_TEST(power_on_reads_the_page_again)
{
	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	fake_store(f, 3, (struct cpupolicy_page_word){.grant = 1});
	ck_assert(!cpupolicy_power_on(f->c, 3, CPUPOLICY_REASON_GRANTED));
	expect_power(3, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_PAGE, 1);
	expect_last(3, DENIED, CPUPOLICY_REASON_PAGE, 1);
}
END_TEST

START_TEST(power_on_precedes_the_confirmation_of_what_follows)
{
	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	fake_publish(f);
	ck_assert(cpupolicy_power_on(f->c, 3, CPUPOLICY_REASON_GRANTED));
	expect_power(3, CPUPOLICY_POWER_ON, CPUPOLICY_REASON_GRANTED, 1);
	fake_expect(f, CPUPOLICY_CONFIRM);
	ck_assert_uint_eq(f->m.confirm.generation, 2);
}
END_TEST

START_TEST(generations_are_confirmed_when_applied)
{
	uint32_t epoch, generation;
	unsigned changes = f->policy_changes;

	ck_assert_uint_eq(cpupolicy_confirmed(f->c), 1);
	f->confirms = false;
	store_and_publish(4, fake_granted(5));
	fake_until(f, f->policy_changes == changes + 1);
	cpupolicy_generation(f->c, &epoch, &generation);
	ck_assert_uint_eq(epoch, FAKE_EPOCH);
	ck_assert_uint_eq(generation, 2);
	ck_assert_uint_eq(cpupolicy_confirmed(f->c), 1);

	/* What is confirmed is what the callback announced, not what came since. */
	cpupolicy_page_store_head(f->page, cpupolicy_page_make_head(FAKE_EPOCH, 3));
	cpupolicy_confirm(f->c);
	fake_expect(f, CPUPOLICY_CONFIRM);
	ck_assert_uint_eq(f->m.confirm.generation, 2);
	ck_assert_uint_eq(f->m.confirm.epoch, FAKE_EPOCH);
	ck_assert_uint_eq(cpupolicy_confirmed(f->c), 2);
}
END_TEST

START_TEST(the_epoch_of_a_session_may_rise)
{
	struct cpupolicy_saved saved;

	/* An incoming session became the VM's live one. */
	cpupolicy_page_store_head(f->page, cpupolicy_page_make_head(FAKE_EPOCH + 5, 9));
	fake_publish(f);
	fake_expect(f, CPUPOLICY_CONFIRM);
	ck_assert_uint_eq(f->m.confirm.epoch, FAKE_EPOCH + 5);
	ck_assert_uint_eq(f->m.confirm.generation, 10);
	cpupolicy_save(f->c, &saved);
	ck_assert_uint_eq(saved.epoch, FAKE_EPOCH + 5);
}
END_TEST

/* ---- asks ---- */

START_TEST(an_ask_is_answered)
{
	struct cpupolicy_verdict rate = {DENIED, CPUPOLICY_REASON_RATE};
	struct cpupolicy_verdict granted = {SUCCESS, CPUPOLICY_REASON_GRANTED};

	fake_store(f, 4, asking(false));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	ck_assert_uint_eq(f->m.ask.vcpu, 4);
	ck_assert_uint_eq(f->m.ask.caller, 1);
	ck_assert_uint_eq(f->m.ask.function, ON_64);
	fake_reply(f, &rate);
	expect_verdict(0, 1, 4, DENIED, CPUPOLICY_REASON_RATE);
	expect_last(4, DENIED, CPUPOLICY_REASON_RATE, 1);

	/* The daemon knows what it denied itself. */
	expect_nothing_before_marker();

	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	fake_reply(f, &granted);
	expect_verdict(1, 1, 4, SUCCESS, CPUPOLICY_REASON_GRANTED);
	ck_assert(cpupolicy_power_on(f->c, 4, CPUPOLICY_REASON_GRANTED));
	expect_power(4, CPUPOLICY_POWER_ON, CPUPOLICY_REASON_GRANTED, 1);
}
END_TEST

START_TEST(an_allowed_ask_does_not_override_the_page)
{
	struct cpupolicy_verdict granted = {SUCCESS, CPUPOLICY_REASON_GRANTED};

	fake_store(f, 4, asking(false));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	fake_store(f, 4, (struct cpupolicy_page_word){.grant = 3});
	fake_reply(f, &granted);
	expect_verdict(0, 1, 4, SUCCESS, CPUPOLICY_REASON_GRANTED);
	ck_assert(!cpupolicy_power_on(f->c, 4, CPUPOLICY_REASON_GRANTED));
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_PAGE, 1);
}
END_TEST

START_TEST(asks_are_answered_in_any_order)
{
	struct cpupolicy_verdict granted = {SUCCESS, CPUPOLICY_REASON_GRANTED};
	struct cpupolicy_verdict rate = {DENIED, CPUPOLICY_REASON_RATE};
	struct cpupolicy_header first;

	fake_store(f, 4, asking(false));
	fake_store(f, 5, asking(false));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	expect_answer(2, 5, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	first = f->header;
	fake_expect(f, CPUPOLICY_ASK);
	fake_reply(f, &granted);
	expect_verdict(0, 2, 5, SUCCESS, CPUPOLICY_REASON_GRANTED);
	f->header = first;
	fake_reply(f, &rate);
	expect_verdict(1, 1, 4, DENIED, CPUPOLICY_REASON_RATE);
}
END_TEST

START_TEST(abandoned_and_replaced_asks_are_not_answered)
{
	struct cpupolicy_verdict granted = {SUCCESS, CPUPOLICY_REASON_GRANTED};

	fake_store(f, 4, asking(false));
	fake_store(f, 5, asking(false));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	cpupolicy_abandon(f->c, 1);
	cpupolicy_abandon(f->c, 1);
	fake_expect(f, CPUPOLICY_ASK);
	fake_reply(f, &granted);
	expect_answer(2, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	expect_answer(2, 5, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_reply(f, &granted);
	fake_expect(f, CPUPOLICY_ASK);
	ck_assert_uint_eq(f->m.ask.vcpu, 5);
	fake_reply(f, &granted);
	expect_verdict(0, 2, 5, SUCCESS, CPUPOLICY_REASON_GRANTED);
	expect_nothing_before_marker();
	ck_assert_uint_eq(f->n_verdicts, 1);
}
END_TEST

START_TEST(a_page_that_decides_ends_the_ask)
{
	struct cpupolicy_verdict granted = {CPUPOLICY_PSCI_SUCCESS, CPUPOLICY_REASON_GRANTED};

	fake_store(f, 4, asking(false));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	fake_store(f, 4, (struct cpupolicy_page_word){0});
	expect_answer(1, 4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NOT_ENABLED);
	fake_reply(f, &granted);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_NOT_ENABLED, 1);

	/* By the answer to a later ask, the earlier one has come and gone. */
	fake_store(f, 5, asking(false));
	expect_answer(2, 5, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	fake_reply(f, &granted);
	expect_verdict(0, 2, 5, SUCCESS, CPUPOLICY_REASON_GRANTED);
}
END_TEST

START_TEST(silence_is_answered_by_the_page)
{
	uint64_t since = fake_now();

	fake_store(f, 4, asking(false));
	fake_store(f, 5, asking(true));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	expect_verdict(0, 1, 4, DENIED, CPUPOLICY_REASON_TIMEOUT);
	ck_assert_uint_ge(fake_now() - since, FAKE_ASK_TIMEOUT_MS * UINT64_C(1000000));
	fake_expect(f, CPUPOLICY_ASK);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_TIMEOUT, 1);

	expect_answer(1, 5, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	expect_verdict(1, 1, 5, SUCCESS, CPUPOLICY_REASON_TIMEOUT);
	fake_expect(f, CPUPOLICY_ASK);

	/* Allowed on timeout, but not any more when the time is over. */
	expect_answer(1, 5, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_store(f, 5, (struct cpupolicy_page_word){.timeout_allow = true, .verdict = CPUPOLICY_VERDICT_ASK});
	expect_verdict(2, 1, 5, DENIED, CPUPOLICY_REASON_NOT_ENABLED);
}
END_TEST

START_TEST(an_error_is_no_answer)
{
	fake_store(f, 4, asking(false));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	fake_error(f, CPUPOLICY_ERROR_BUSY, "Not now.");
	expect_verdict(0, 1, 4, DENIED, CPUPOLICY_REASON_TIMEOUT);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_TIMEOUT, 1);
}
END_TEST

START_TEST(a_lost_daemon_answers_nothing_and_the_page_does)
{
	fake_store(f, 4, asking(false));
	fake_store(f, 5, asking(true));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	/* Long enough that only the loss can be what ends the wait. */
	cpupolicy_page_store_ask_timeout_ms(f->page, 60000);
	expect_answer(2, 5, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	fake_hangup(f);
	fake_until(f, f->n_verdicts == 2);
	ck_assert_int_eq(cpupolicy_link(f->c), CPUPOLICY_LINK_CONNECTING);
	expect_verdict(1, 2, 5, SUCCESS, CPUPOLICY_REASON_TIMEOUT);
	ck_assert_int_eq(f->verdicts[0].verdict.psci, DENIED);

	expect_answer(1, 4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_TIMEOUT);
	expect_answer(1, 5, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_TIMEOUT);
	ck_assert(cpupolicy_power_on(f->c, 5, CPUPOLICY_REASON_TIMEOUT));

	/* What was denied meanwhile is told when there is someone to tell. */
	fake_register(f);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_TIMEOUT, 2);
}
END_TEST

/* ---- marks ---- */

START_TEST(an_ejected_vcpu_needs_a_new_grant)
{
	struct cpupolicy_view view;

	cpupolicy_ejected(f->c, 3, CPUPOLICY_EJECT_GUEST);
	fake_expect(f, CPUPOLICY_EJECT);
	ck_assert_uint_eq(f->m.eject.vcpu, 3);
	ck_assert_uint_eq(f->m.eject.cause, CPUPOLICY_EJECT_GUEST);
	cpupolicy_view(f->c, 3, &view);
	ck_assert(!view.enabled && view.ejected);
	expect_answer(0, 3, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_EJECTED);
	ck_assert(!cpupolicy_power_on(f->c, 3, CPUPOLICY_REASON_GRANTED));

	/* A new generation of the same grant changes nothing. */
	fake_publish(f);
	fake_store(f, 3, asking(false));
	fake_store(f, 3, fake_granted(1));
	expect_answer(0, 3, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_EJECTED);
	fake_store(f, 3, fake_granted(2));
	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	cpupolicy_view(f->c, 3, &view);
	ck_assert(view.enabled && !view.ejected);
}
END_TEST

START_TEST(vcpu_0_cannot_be_ejected)
{
	cpupolicy_ejected(f->c, 0, CPUPOLICY_EJECT_GUEST);
	cpupolicy_restore_ejected(f->c, 0, true);
	cpupolicy_ejected(f->c, FAKE_VCPUS, CPUPOLICY_EJECT_GUEST);
	expect_answer(1, 0, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	expect_nothing_before_marker();
}
END_TEST

START_TEST(a_reported_mark_ends_with_the_new_page)
{
	cpupolicy_ejected(f->c, 3, CPUPOLICY_EJECT_GUEST);
	fake_hangup(f);
	fake_until(f, cpupolicy_link(f->c) == CPUPOLICY_LINK_CONNECTING);
	cpupolicy_ejected(f->c, 2, CPUPOLICY_EJECT_REQUESTED);

	/* The daemon has seen both; what it writes into the new page takes them into account. */
	fake_new_page(f, FAKE_EPOCH + 1);
	fake_greet(f);
	ck_assert_uint_eq(f->m.reg.vcpus[2].flags, CPUPOLICY_VCPU_EJECTED);
	ck_assert_uint_eq(f->m.reg.vcpus[3].flags, CPUPOLICY_VCPU_EJECTED | CPUPOLICY_VCPU_EJECT_OWN);
	ck_assert_uint_eq(f->m.reg.vcpus[1].flags, 0);
	expect_answer(0, 3, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_EJECTED);
	fake_admit(f);
	fake_expect(f, CPUPOLICY_CONFIRM);
	expect_answer(0, 2, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
}
END_TEST

START_TEST(a_late_mark_survives_the_new_page)
{
	fake_hangup(f);
	fake_new_page(f, FAKE_EPOCH + 1);
	fake_store(f, 3, fake_granted(77));
	fake_greet(f);
	ck_assert_uint_eq(f->m.reg.vcpus[3].flags, 0);
	cpupolicy_ejected(f->c, 3, CPUPOLICY_EJECT_REQUESTED);
	fake_admit(f);
	fake_expect(f, CPUPOLICY_EJECT);
	ck_assert_uint_eq(f->m.eject.vcpu, 3);
	fake_expect(f, CPUPOLICY_CONFIRM);
	expect_answer(0, 3, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_EJECTED);
	fake_store(f, 3, fake_granted(78));
	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
}
END_TEST

START_TEST(a_late_mark_of_a_registration_that_failed_is_reported_by_the_next)
{
	fake_hangup(f);
	fake_greet(f);
	cpupolicy_ejected(f->c, 3, CPUPOLICY_EJECT_REQUESTED);
	fake_hangup(f);
	fake_new_page(f, FAKE_EPOCH + 1);
	fake_greet(f);
	ck_assert_uint_eq(f->m.reg.vcpus[3].flags, CPUPOLICY_VCPU_EJECTED);
	fake_admit(f);
	fake_expect(f, CPUPOLICY_CONFIRM);
	expect_answer(0, 3, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);
}
END_TEST

START_TEST(a_reset_resolves_what_is_asked_back)
{
	struct cpupolicy_page_word back = fake_granted(1);

	back.wanted = false;
	fake_store(f, 2, back);
	fake_store(f, 3, back);
	fake_store(f, 4, asking(false));
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	cpupolicy_ejected(f->c, 3, CPUPOLICY_EJECT_REQUESTED);
	fake_expect(f, CPUPOLICY_EJECT);

	cpupolicy_reset(f->c, CPUPOLICY_RESET_HOST);
	fake_expect(f, CPUPOLICY_EJECT);
	ck_assert_uint_eq(f->m.eject.vcpu, 2);
	ck_assert_uint_eq(f->m.eject.cause, CPUPOLICY_EJECT_RESET);
	fake_expect(f, CPUPOLICY_RESET);
	ck_assert_uint_eq(f->m.reset.kind, CPUPOLICY_RESET_HOST);
	expect_answer(0, 2, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_EJECTED);
	expect_power(2, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_EJECTED, 1);
	expect_answer(0, 1, CPUPOLICY_ANSWER_ALLOW, CPUPOLICY_REASON_GRANTED);

	/* Nobody waits for a verdict any more: who asks, asks anew. */
	expect_answer(1, 4, CPUPOLICY_ANSWER_ASKED, CPUPOLICY_REASON_NONE);
	fake_expect(f, CPUPOLICY_ASK);
	expect_verdict(0, 1, 4, DENIED, CPUPOLICY_REASON_TIMEOUT);
}
END_TEST

/* ---- reports ---- */

START_TEST(events_are_reported_as_they_are)
{
	cpupolicy_ost(f->c, 4, 3, 0x80);
	cpupolicy_run_state(f->c, CPUPOLICY_RUN_PAUSED);
	cpupolicy_reset(f->c, CPUPOLICY_RESET_GUEST);
	fake_expect(f, CPUPOLICY_OST);
	ck_assert_uint_eq(f->m.ost.vcpu, 4);
	ck_assert_uint_eq(f->m.ost.event, 3);
	ck_assert_uint_eq(f->m.ost.status, 0x80);
	fake_expect(f, CPUPOLICY_RUN_STATE);
	ck_assert_uint_eq(f->m.run.run_state, CPUPOLICY_RUN_PAUSED);
	fake_expect(f, CPUPOLICY_RESET);
	ck_assert_uint_eq(f->m.reset.kind, CPUPOLICY_RESET_GUEST);
}
END_TEST

START_TEST(a_flood_of_denials_is_counted)
{
	uint64_t since = fake_now(), sum = 0;
	unsigned messages = 0;

	for (int i = 0; i < 100000; i++)
		expect_answer(0, 4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NOT_ENABLED);
	while (sum < 100000) {
		fake_expect(f, CPUPOLICY_POWER);
		ck_assert_uint_eq(f->m.power.event, CPUPOLICY_POWER_DENIED);
		/* The first call is known at once. */
		ck_assert(messages > 0 || f->m.power.count == 1);
		sum += f->m.power.count;
		messages++;
	}
	ck_assert_uint_eq(sum, 100000);
	ck_assert_uint_le(messages, 2 + (fake_now() - since) / 100000000);
	expect_last(4, DENIED, CPUPOLICY_REASON_NOT_ENABLED, 100000);
	expect_nothing_before_marker();
}
END_TEST

START_TEST(denials_of_two_reasons_are_two_messages)
{
	expect_answer(0, 4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NOT_ENABLED);
	expect_answer(0, 4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NOT_ENABLED);
	fake_store(f, 4, fake_granted(2));
	cpupolicy_ejected(f->c, 4, CPUPOLICY_EJECT_GUEST);
	expect_answer(0, 4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_EJECTED);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_NOT_ENABLED, 1);
	fake_expect(f, CPUPOLICY_EJECT);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_NOT_ENABLED, 1);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_EJECTED, 1);
}
END_TEST

START_TEST(a_resync_tells_everything)
{
	unsigned states = f->states;

	f->flags[0] = CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED;
	f->flags[2] = CPUPOLICY_VCPU_ENABLED | CPUPOLICY_VCPU_EJECTED; /* not its to say */
	f->run_state = CPUPOLICY_RUN_PAUSED;
	cpupolicy_restore_ejected(f->c, 3, true);
	cpupolicy_resync(f->c);
	ck_assert_uint_eq(f->states, states);
	fake_expect(f, CPUPOLICY_STATE);
	ck_assert_uint_eq(f->m.state.head.run_state, CPUPOLICY_RUN_PAUSED);
	ck_assert_uint_eq(f->m.state.vcpus[0].flags, f->flags[0]);
	ck_assert_uint_eq(f->m.state.vcpus[2].flags, CPUPOLICY_VCPU_ENABLED);
	ck_assert_uint_eq(f->m.state.vcpus[3].flags, CPUPOLICY_VCPU_EJECTED);
	ck_assert_uint_eq(f->m.state.vcpus[5].mpidr, 5);
}
END_TEST

/* Reads events until the state comes; returns how many. */
static unsigned read_until_state(void)
{
	unsigned n = 0;

	while (fake_next(f) != CPUPOLICY_STATE) {
		ck_assert_uint_eq(f->header.request, CPUPOLICY_OST);
		n++;
	}
	return n;
}

START_TEST(an_overflow_ends_in_a_resync)
{
	const unsigned sent = 100000;
	unsigned n;

	for (unsigned i = 0; i < sent; i++)
		cpupolicy_ost(f->c, 1, 1, i);
	expect_answer(0, 4, CPUPOLICY_ANSWER_DENY, CPUPOLICY_REASON_NOT_ENABLED);
	cpupolicy_ejected(f->c, 3, CPUPOLICY_EJECT_GUEST);
	f->flags[5] = CPUPOLICY_VCPU_ONLINE;
	n = read_until_state();
	ck_assert_uint_lt(n, sent);
	ck_assert_uint_gt(n, 100);
	ck_assert_uint_eq(f->m.state.vcpus[5].flags, CPUPOLICY_VCPU_ONLINE);
	ck_assert_uint_eq(f->m.state.vcpus[3].flags, CPUPOLICY_VCPU_EJECTED | CPUPOLICY_VCPU_EJECT_OWN);

	/* What a state cannot say follows it, and events flow again. */
	fake_expect(f, CPUPOLICY_CONFIRM);
	ck_assert_uint_eq(f->m.confirm.generation, 1);
	expect_power(4, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_NOT_ENABLED, 1);
	expect_nothing_before_marker();
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("libcpupolicy");
	TCase *tcase = tcase_create("fresh");

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, identity_has_bounds);
	tcase_add_test(tcase, without_a_page_only_vcpu_0_goes_on);
	suite_add_tcase(suite, tcase);

	tcase = tcase_create("registered");
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup_registered, teardown);
	tcase_add_test(tcase, the_page_decides);
	tcase_add_test(tcase, observe_denies_nothing);
	tcase_add_test(tcase, power_on_reads_the_page_again);
	tcase_add_test(tcase, power_on_precedes_the_confirmation_of_what_follows);
	tcase_add_test(tcase, generations_are_confirmed_when_applied);
	tcase_add_test(tcase, the_epoch_of_a_session_may_rise);
	tcase_add_test(tcase, an_ask_is_answered);
	tcase_add_test(tcase, an_allowed_ask_does_not_override_the_page);
	tcase_add_test(tcase, asks_are_answered_in_any_order);
	tcase_add_test(tcase, abandoned_and_replaced_asks_are_not_answered);
	tcase_add_test(tcase, a_page_that_decides_ends_the_ask);
	tcase_add_test(tcase, silence_is_answered_by_the_page);
	tcase_add_test(tcase, an_error_is_no_answer);
	tcase_add_test(tcase, a_lost_daemon_answers_nothing_and_the_page_does);
	tcase_add_test(tcase, an_ejected_vcpu_needs_a_new_grant);
	tcase_add_test(tcase, vcpu_0_cannot_be_ejected);
	tcase_add_test(tcase, a_reported_mark_ends_with_the_new_page);
	tcase_add_test(tcase, a_late_mark_survives_the_new_page);
	tcase_add_test(tcase, a_late_mark_of_a_registration_that_failed_is_reported_by_the_next);
	tcase_add_test(tcase, a_reset_resolves_what_is_asked_back);
	tcase_add_test(tcase, events_are_reported_as_they_are);
	tcase_add_test(tcase, a_flood_of_denials_is_counted);
	tcase_add_test(tcase, denials_of_two_reasons_are_two_messages);
	tcase_add_test(tcase, a_resync_tells_everything);
	tcase_add_test(tcase, an_overflow_ends_in_a_resync);
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
