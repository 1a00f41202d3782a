/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Service levels through the host with a real store and real sessions: admission, assignment, reload, modes, usage. */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/host/host_private.h"
#include "daemon/base/util.h"
#include "daemon/base/wallclock.h"
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

static void start(const char *policy)
{
	rig_policy(&rig, policy);
	rig_start(&rig);
}

static void restart(void)
{
	rig_stop(&rig);
	rig_start(&rig);
}

static struct host_vm_view view(const char *name)
{
	struct host_vm_view v;

	host_vm_view(host_find(rig.host, name), &v);
	return v;
}

static struct host_view host(void)
{
	struct host_view v;

	host_view(rig.host, &v);
	return v;
}

static void pass(uint64_t ns)
{
	uint64_t since = rig_clock();

	rig_until(&rig, rig_clock() - since >= ns);
}

#define MSEC UINT64_C(1000000)

/* The outcome of a request that `...` makes with (client_answer, &c). */
#define ask(request, ...)                                                                                              \
	({                                                                                                             \
		static struct client c_;                                                                               \
		memset(&c_, 0, sizeof(c_));                                                                            \
		request(rig.host, __VA_ARGS__, client_answer, &c_);                                                    \
		rig_until(&rig, c_.calls == 1);                                                                        \
		&c_;                                                                                                   \
	})

#define CLASSES                                                                                                        \
	"\"classes\": {"                                                                                               \
	"  \"gold\": {\"guaranteed\": 3, \"priority\": 5},"                                                            \
	"  \"bronze\": {\"guaranteed\": 1, \"limit\": 4},"                                                             \
	"  \"metered\": {\"guaranteed\": 2,"                                                                           \
	"    \"burst\": {\"cap_seconds\": 100, \"initial_seconds\": 50, \"resume_seconds\": 10}}"                      \
	"}, \"tenants\": {\"acme\": {\"quota\": 8}, \"tiny\": {\"quota\": 2}}"

#define POLICY(more) "{" CLASSES more "}"

/* ---- admission ---- */

START_TEST(who_does_not_fit_is_refused_and_told_why)
{
	struct vmm a, b, again;

	start(POLICY(", \"default_class\": \"gold\", \"host\": {\"capacity\": 5}"));
	vmm_start(&a, &rig, 1);
	vmm_connect(&b, &rig, 2);
	vmm_hello(&b);
	vmm_send_register(&b);
	vmm_expect_error(&b, CPUPOLICY_ERROR_LIMIT);
	/* what is wanted, what there is, what is free */
	ck_assert_ptr_nonnull(strstr(b.reply.error.message, "3"));
	ck_assert_ptr_nonnull(strstr(b.reply.error.message, "5"));
	ck_assert_ptr_nonnull(strstr(b.reply.error.message, "2"));
	ck_assert_ptr_null(host_find(rig.host, "vm2"));
	ck_assert_uint_eq(host_counters(rig.host)->registrations[COUNTERS_REFUSED_ADMISSION], 1);
	ck_assert_uint_eq(host_counters(rig.host)->refusals[RULE_CAPACITY], 1);
	/* who comes back is never refused */
	rig_policy(&rig, POLICY(", \"default_class\": \"gold\", \"host\": {\"capacity\": 1}"));
	restart();
	vmm_reconnect(&again, &a);
	vmm_hello(&again);
	vmm_register(&again);
	ck_assert_uint_eq(host().capacity, 1);
	ck_assert_uint_eq(view("vm1").fleet.allowance, 3);
	vmm_close(&a);
	vmm_close(&again);
	vmm_close(&b);
}
END_TEST

START_TEST(nothing_is_left_of_who_was_refused)
{
	struct vmm a;

	start(POLICY(", \"default_class\": \"gold\", \"host\": {\"capacity\": 2}"));
	for (unsigned i = 0; i < 3; i++) {
		vmm_connect(&a, &rig, 1);
		vmm_hello(&a);
		vmm_send_register(&a);
		vmm_expect_error(&a, CPUPOLICY_ERROR_LIMIT);
		vmm_close(&a);
	}
	ck_assert_uint_eq(host_count(rig.host), 0);
	ck_assert_uint_eq(host().sums.reserved, 0);
	restart();
	ck_assert_uint_eq(host_count(rig.host), 0);
}
END_TEST

START_TEST(observed_it_is_let_in)
{
	struct vmm a;

	start("{\"classes\": {\"default\": {\"guaranteed\": 3, \"observe\": true}}, \"host\": {\"capacity\": 2}}");
	vmm_start(&a, &rig, 1);
	ck_assert_ptr_nonnull(host_find(rig.host, "vm1"));
	vmm_close(&a);
}
END_TEST

START_TEST(guarantee_takes_back_what_was_lent)
{
	struct vmm a, b;

	start(POLICY(
		", \"rules\": [{\"match\": {\"name\": \"vm2\"}, \"class\": \"gold\"}], \"host\": {\"capacity\": 6}"));
	vmm_connect(&a, &rig, 1);
	a.flags |= CPUPOLICY_REG_BOOT_REMOVABLE | CPUPOLICY_REG_NOTIFY;
	a.boot = 5;
	vmm_hello(&a);
	vmm_register(&a);
	vmm_confirm(&a);
	ck_assert_uint_eq(vmm_words(&a, CPUPOLICY_WORD_WANTED), 0x1f);
	vmm_connect(&b, &rig, 2);
	b.boot = 4;
	vmm_hello(&b);
	vmm_register(&b);
	ck_assert_str_eq(view("vm2").class, "gold");
	ck_assert_int_eq(view("vm2").class_by, POLICY_BY_RULE);
	ck_assert_uint_eq(view("vm2").class_rule, 1);
	/* 3 are guaranteed to b and granted at once; a holds 5 of 6, and is asked for what is above the rest */
	ck_assert_uint_eq(vmm_words(&b, CPUPOLICY_WORD_ENABLED), 0x7);
	rig_until(&rig, vmm_words(&a, CPUPOLICY_WORD_WANTED) == 0x3 || vmm_words(&a, CPUPOLICY_WORD_WANTED) == 0x7);
	ck_assert_uint_eq(vmm_words(&a, CPUPOLICY_WORD_ENABLED), 0x1f);
	ck_assert_uint_gt(host().sums.overdue, 0);
	ck_assert_uint_eq(host().sums.held, 8);
	/* b ends, a has it all again */
	vmm_event(&b, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	rig_until(&rig, vmm_words(&a, CPUPOLICY_WORD_WANTED) == 0x1f);
	ck_assert_uint_gt(rig.host_changed, 0);
	vmm_close(&a);
	vmm_close(&b);
}
END_TEST

/* ---- assignment ---- */

START_TEST(assignment_outlives_the_daemon)
{
	struct vmm v;

	start(POLICY(""));
	vmm_start(&v, &rig, 1);
	ck_assert_str_eq(view("vm1").class, "default");
	ck_assert_int_eq(ask(host_assign, "vm1", "bronze", "acme", 500)->error, HOST_OK);
	ck_assert_str_eq(view("vm1").class, "bronze");
	ck_assert_str_eq(view("vm1").tenant, "acme");
	ck_assert_uint_eq(view("vm1").fleet.limit, 4);
	restart();
	ck_assert_str_eq(view("vm1").class, "bronze");
	ck_assert_str_eq(view("vm1").tenant, "acme");
	ck_assert_int_eq(view("vm1").class_by, POLICY_BY_ASSIGNMENT);
	ck_assert_uint_eq(view("vm1").assigned_uid, 500);
	/* one of them is left as it is, the other goes by the rules again */
	ck_assert_int_eq(ask(host_assign, "vm1", NULL, "", 500)->error, HOST_OK);
	ck_assert_str_eq(view("vm1").class, "bronze");
	ck_assert_ptr_null(view("vm1").tenant);
	ck_assert_int_eq(ask(host_resize, "vm1", 5, 500)->error, HOST_SLA_LIMIT);
	vmm_close(&v);
}
END_TEST

START_TEST(refused_assignments)
{
	struct vmm v;

	start(POLICY(", \"host\": {\"capacity\": 2}"));
	vmm_start(&v, &rig, 1);
	ck_assert_int_eq(ask(host_assign, "vm1", "none", NULL, 500)->error, HOST_NO_SUCH_CLASS);
	ck_assert_int_eq(ask(host_assign, "vm1", NULL, "none", 500)->error, HOST_NO_SUCH_TENANT);
	ck_assert_int_eq(ask(host_assign, "nobody", "gold", NULL, 500)->error, HOST_NO_SUCH_VM);
	ck_assert_int_eq(ask(host_assign, "vm1", "gold", NULL, 500)->error, HOST_CAPACITY);
	ck_assert_str_eq(view("vm1").class, "default");
	ck_assert_ptr_null(view("vm1").assigned_class);
	vmm_close(&v);
}
END_TEST

START_TEST(assignment_on_a_full_disk)
{
	struct vmm v;

	start(POLICY(""));
	vmm_start(&v, &rig, 1);
	ck_assert_int_eq(ask(host_assign, "vm1", "bronze", "acme", 500)->error, HOST_OK);
	rig_fill_disk(true);
	ck_assert_int_eq(ask(host_assign, "vm1", "gold", "", 501)->error, HOST_STORAGE);
	/* as if never asked */
	ck_assert_str_eq(view("vm1").class, "bronze");
	ck_assert_str_eq(view("vm1").assigned_class, "bronze");
	ck_assert_str_eq(view("vm1").tenant, "acme");
	ck_assert_uint_eq(view("vm1").assigned_uid, 500);
	rig_fill_disk(false);
	ck_assert_int_eq(ask(host_assign, "vm1", "gold", NULL, 501)->error, HOST_OK);
	ck_assert_str_eq(view("vm1").class, "gold");
	vmm_close(&v);
}
END_TEST

/* Two of them fail together, and lead back to before both. */
START_TEST(assignments_that_fail_in_a_row)
{
	struct client a = {0}, b = {0};
	struct vmm v;

	start(POLICY(""));
	vmm_start(&v, &rig, 1);
	rig_fill_disk(true);
	host_assign(rig.host, "vm1", "gold", NULL, 501, client_answer, &a);
	host_assign(rig.host, "vm1", "bronze", "acme", 502, client_answer, &b);
	rig_until(&rig, a.calls == 1 && b.calls == 1);
	ck_assert_int_eq(a.error, HOST_STORAGE);
	ck_assert_int_eq(b.error, HOST_STORAGE);
	ck_assert_str_eq(view("vm1").class, "default");
	ck_assert_ptr_null(view("vm1").assigned_class);
	ck_assert_ptr_null(view("vm1").assigned_tenant);
	vmm_close(&v);
}
END_TEST

START_TEST(assigned_class_that_went)
{
	struct vmm v;

	start(POLICY(""));
	vmm_start(&v, &rig, 1);
	ck_assert_int_eq(ask(host_assign, "vm1", "bronze", NULL, 500)->error, HOST_OK);
	rig_policy(&rig, "{}");
	ck_assert_int_eq(ask(host_reload, 0)->error, HOST_OK);
	ck_assert_str_eq(view("vm1").class, "default");
	ck_assert(view("vm1").class_unknown);
	ck_assert_str_eq(view("vm1").assigned_class, "bronze");
	/* and comes again */
	rig_policy(&rig, POLICY(""));
	ck_assert_int_eq(ask(host_reload, 0)->error, HOST_OK);
	ck_assert_str_eq(view("vm1").class, "bronze");
	vmm_close(&v);
}
END_TEST

/* ---- reload ---- */

START_TEST(reload_moves_everybody)
{
	struct vmm v;

	start(POLICY(""));
	vmm_connect(&v, &rig, 1);
	v.flags |= CPUPOLICY_REG_BOOT_REMOVABLE | CPUPOLICY_REG_NOTIFY;
	vmm_hello(&v);
	vmm_register(&v);
	vmm_confirm(&v);
	rig_policy(&rig, POLICY(", \"rules\": [{\"match\": {\"name\": \"vm*\"}, \"tenant\": \"tiny\"}], \"host\": "
				"{\"capacity\": 9}"));
	ck_assert_int_eq(ask(host_reload, 0)->error, HOST_OK);
	ck_assert_uint_eq(rig.reloaded, 1);
	ck_assert_uint_eq(host().capacity, 9);
	ck_assert_uint_eq(host().tenants, 2);
	ck_assert_str_eq(view("vm1").tenant, "tiny");
	ck_assert_int_eq(view("vm1").fleet.bound, RULE_TENANT);
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_WANTED), 0x3);
	vmm_close(&v);
}
END_TEST

/* At registration it would have been refused; who is there is not sent away. */
START_TEST(reload_that_asks_a_vmm_that_cannot)
{
	uint64_t asks = CPUPOLICY_VERDICT_ASK << CPUPOLICY_WORD_VERDICT_SHIFT;
	uint64_t allows = CPUPOLICY_VERDICT_ALLOW << CPUPOLICY_WORD_VERDICT_SHIFT;
	struct vmm v, w;

	start("{}");
	vmm_connect(&v, &rig, 1);
	vmm_event(&v, CPUPOLICY_HELLO, cpupolicy_hello, .features = CPUPOLICY_F_INCOMING);
	vmm_register(&v);
	vmm_start(&w, &rig, 2);
	rig_policy(&rig, "{\"classes\": {\"default\": {\"verdicts\": \"ask\", \"on_timeout\": \"allow\"}}}");
	ck_assert_int_eq(ask(host_reload, 0)->error, HOST_OK);
	ck_assert_uint_eq(vmm_words(&w, asks), 0xf);
	ck_assert_uint_eq(vmm_words(&v, asks), 0);
	ck_assert_uint_eq(vmm_words(&v, allows), 0xf);
	rig_policy(&rig, "{\"classes\": {\"default\": {\"verdicts\": \"ask\", \"on_timeout\": \"deny\"}}}");
	ck_assert_int_eq(ask(host_reload, 0)->error, HOST_OK);
	ck_assert_uint_eq(vmm_words(&v, asks | allows), 0);
	vmm_close(&v);
	vmm_close(&w);
}
END_TEST

START_TEST(host_changes_are_told_once)
{
	unsigned told;
	struct vmm v;

	start(POLICY(""));
	vmm_start(&v, &rig, 1);
	rig_until(&rig, rig.host_changed > 0);
	pass(5 * MSEC);
	told = rig.host_changed;
	vmm_ask(&v, 5);
	vmm_power(&v, 1, CPUPOLICY_POWER_ON);
	pass(5 * MSEC);
	ck_assert_uint_eq(rig.host_changed, told);
	vmm_close(&v);
}
END_TEST

START_TEST(bad_reload_changes_nothing)
{
	struct client *c;
	struct vmm v;

	start(POLICY(", \"default_class\": \"bronze\""));
	vmm_start(&v, &rig, 1);
	rig_policy(&rig, "{\"classes\": {\"default\": {\"limit\": 0}}}");
	c = ask(host_reload, 0);
	ck_assert_int_eq(c->error, HOST_INVALID_POLICY);
	ck_assert_ptr_nonnull(strstr(c->message, "policy.json:1:"));
	ck_assert_str_eq(view("vm1").class, "bronze");
	ck_assert_uint_eq(rig.reloaded, 0);
	ck_assert_uint_eq(host_counters(rig.host)->reload_failures, 1);
	/* and what is read from a client's view still is there */
	ck_assert_ptr_nonnull(policy_class(host_policy(rig.host), "gold"));
	vmm_close(&v);
}
END_TEST

/* ---- freeze, drain ---- */

START_TEST(frozen_nothing_changes)
{
	struct vmm v, w;

	start(POLICY(""));
	vmm_start(&v, &rig, 1);
	ck_assert_int_eq(ask(host_freeze, true, 500)->error, HOST_OK);
	ck_assert(host().frozen);
	ck_assert_uint_eq(host().frozen_uid, 500);
	ck_assert_int_eq(ask(host_resize, "vm1", 5, 0)->error, HOST_FROZEN);
	ck_assert_int_eq(ask(host_assign, "vm1", "gold", NULL, 0)->error, HOST_FROZEN);
	ck_assert_int_eq(ask(host_reload, 0)->error, HOST_FROZEN);
	vmm_connect(&w, &rig, 2);
	vmm_hello(&w);
	vmm_send_register(&w);
	vmm_expect_error(&w, CPUPOLICY_ERROR_LIMIT);
	restart();
	ck_assert(host().frozen);
	ck_assert_uint_eq(host().frozen_uid, 500);
	ck_assert_int_eq(ask(host_resize, "vm1", 5, 0)->error, HOST_FROZEN);
	ck_assert_int_eq(ask(host_freeze, false, 501)->error, HOST_OK);
	ck_assert(!host().frozen);
	ck_assert_int_eq(ask(host_resize, "vm1", 5, 0)->error, HOST_OK);
	restart();
	ck_assert(!host().frozen);
	ck_assert_uint_eq(host().frozen_uid, 501);
	vmm_close(&v);
	vmm_close(&w);
}
END_TEST

START_TEST(drained_no_new_vm)
{
	struct vmm v, w;

	start(POLICY(", \"default_class\": \"gold\""));
	vmm_connect(&v, &rig, 1);
	v.flags |= CPUPOLICY_REG_BOOT_REMOVABLE | CPUPOLICY_REG_NOTIFY;
	vmm_hello(&v);
	vmm_register(&v);
	vmm_confirm(&v);
	ck_assert_int_eq(ask(host_drain, true, 500)->error, HOST_OK);
	ck_assert(host().drained);
	/* burst is asked back, what is guaranteed stays */
	ck_assert_uint_eq(vmm_words(&v, CPUPOLICY_WORD_WANTED), 0x7);
	vmm_connect(&w, &rig, 2);
	vmm_hello(&w);
	vmm_send_register(&w);
	vmm_expect_error(&w, CPUPOLICY_ERROR_LIMIT);
	restart();
	ck_assert(host().drained);
	vmm_close(&v);
	vmm_close(&w);
}
END_TEST

START_TEST(modes_on_a_full_disk)
{
	struct client freeze = {0}, drain = {0}, thaw = {0};

	start(POLICY(""));
	rig_fill_disk(true);
	ck_assert_int_eq(ask(host_freeze, true, 500)->error, HOST_STORAGE);
	ck_assert(!host().frozen);
	rig_fill_disk(false);
	/* one after the other, each over what the one before has led to */
	host_freeze(rig.host, true, 1, client_answer, &freeze);
	host_drain(rig.host, true, 2, client_answer, &drain);
	host_freeze(rig.host, false, 3, client_answer, &thaw);
	rig_until(&rig, freeze.calls == 1 && drain.calls == 1 && thaw.calls == 1);
	ck_assert(!host().frozen);
	ck_assert(host().drained);
	restart();
	ck_assert(!host().frozen);
	ck_assert(host().drained);
	ck_assert_uint_eq(host().frozen_uid, 3);
	ck_assert_uint_eq(host().drained_uid, 2);
}
END_TEST

/* ---- explain ---- */

START_TEST(explanation_is_what_happens)
{
	struct explain explain;
	struct client *c;
	char text[EXPLAIN_TEXT_SIZE];
	struct vmm v;

	start(POLICY(", \"default_class\": \"bronze\""));
	vmm_start(&v, &rig, 1);
	ck_assert_int_eq(host_explain(rig.host, "nobody", 1, &explain), HOST_NO_SUCH_VM);
	ck_assert_int_eq(host_explain(rig.host, "vm1", 5, &explain), HOST_OK);
	ck_assert_int_eq(explain.refused, RULE_LIMIT);
	c = ask(host_resize, "vm1", 5, 0);
	ck_assert_int_eq(c->error, HOST_SLA_LIMIT);
	for (size_t i = 0; i < explain.n; i++)
		if (explain.lines[i].rule == RULE_LIMIT)
			explain_text(text, sizeof(text), "vm1", &explain.lines[i]);
	ck_assert_str_eq(c->message, text);
	ck_assert_uint_eq(host_counters(rig.host)->refusals[RULE_LIMIT], 1);
	ck_assert_int_eq(host_explain(rig.host, "vm1", 0, &explain), HOST_OK);
	ck_assert_int_eq(explain.refused, RULE_NONE);
	vmm_run_state(&v, CPUPOLICY_RUN_INACTIVE);
	ck_assert_int_eq(host_explain(rig.host, "vm1", 3, &explain), HOST_OK);
	ck_assert_int_eq(explain.refused, RULE_MIGRATING);
	vmm_close(&v);
}
END_TEST

START_TEST(denial_says_which_rule)
{
	struct vmm v;

	start(POLICY(", \"host\": {\"capacity\": 4}"));
	vmm_start(&v, &rig, 1);
	ck_assert_int_eq(ask(host_resize, "vm1", 4, 0)->error, HOST_OK);
	ck_assert_int_eq(ask(host_drain, true, 0)->error, HOST_OK);
	ck_assert_int_eq(view("vm1").fleet.bound, RULE_DRAINED);
	ck_assert_int_eq(vmm_ask(&v, 5).psci, CPUPOLICY_PSCI_DENIED);
	rig_until(&rig, rig.denied == 1);
	ck_assert_int_eq(rig.denials[0].rule, RULE_DRAINED);
	ck_assert_uint_eq(host_counters(rig.host)->verdicts[COUNTERS_DENIED][CPUPOLICY_REASON_NOT_ENABLED], 1);
	vmm_close(&v);
}
END_TEST

/* ---- credit that moves ---- */

START_TEST(credit_is_handed_over)
{
	struct host_transfer transfer, again;
	struct vmm v;

	start(POLICY(", \"default_class\": \"metered\""));
	vmm_start(&v, &rig, 1);
	ck_assert_int_eq(host_export(rig.host, "vm1", &transfer), HOST_OK);
	ck_assert(transfer.credit);
	ck_assert_int_le(transfer.balance, INT64_C(51) * 1000000000);
	ck_assert_int_gt(transfer.balance, INT64_C(40) * 1000000000);
	ck_assert_ptr_null(transfer.assigned_class);
	transfer.balance = INT64_C(77) * 1000000000;
	transfer.assigned_tenant = "acme";
	ck_assert_int_eq(ask(host_import, "vm1", &transfer, 500)->error, HOST_OK);
	restart();
	ck_assert_int_eq(host_export(rig.host, "vm1", &again), HOST_OK);
	ck_assert_int_le(again.balance, INT64_C(78) * 1000000000);
	ck_assert_int_gt(again.balance, INT64_C(60) * 1000000000);
	ck_assert_str_eq(again.assigned_tenant, "acme");
	ck_assert_str_eq(view("vm1").tenant, "acme");
	/* not where it cannot be recorded */
	rig_fill_disk(true);
	transfer.balance = -1;
	ck_assert_int_eq(ask(host_import, "vm1", &transfer, 500)->error, HOST_STORAGE);
	ck_assert_int_gt(view("vm1").fleet.balance, INT64_C(60) * 1000000000);
	vmm_close(&v);
}
END_TEST

/* ---- usage ---- */

struct totals {
	bool done;
	unsigned rows;
	uint64_t guaranteed, burst;
	char class[32], tenant[32];
};

static int on_usage(const struct store_usage_row *rows, size_t n, bool last, int error, const char *why, void *userdata)
{
	struct totals *t = userdata;

	ck_assert_int_eq(error, 0);
	for (size_t i = 0; i < n; i++) {
		t->rows++;
		t->guaranteed += rows[i].row.guaranteed_ns;
		t->burst += rows[i].row.burst_ns;
		snprintf(t->class, sizeof(t->class), "%s", rows[i].class);
		snprintf(t->tenant, sizeof(t->tenant), "%s", rows[i].tenant ? rows[i].tenant : "");
	}
	t->done = last;
	return 0;
}

static struct totals usage(const char *tenant)
{
	const struct store_usage_filter filter = {.until = UINT64_MAX, .tenant = tenant};
	struct totals t = {0};

	ck_assert_int_eq(host_usage_query(rig.host, &filter, on_usage, &t), 0);
	rig_until(&rig, t.done);
	return t;
}

START_TEST(usage_is_enabled_vcpus_times_time)
{
	struct host_vm_view before, after;
	struct totals t;
	struct vmm v;
	uint64_t begin = rig_clock(), lived;

	start(POLICY(", \"default_class\": \"gold\""));
	vmm_start(&v, &rig, 1);
	pass(50 * MSEC);
	before = view("vm1");
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	rig_until(&rig, rig.removed == 1);
	lived = rig_clock() - begin;
	t = usage(NULL);
	/* 4 vCPUs, 3 of them guaranteed; what a VM used stays when it is forgotten */
	ck_assert_uint_ge(t.guaranteed, 3 * 50 * MSEC);
	ck_assert_uint_le(t.guaranteed, 3 * lived);
	ck_assert_uint_ge(t.guaranteed, before.guaranteed_ns);
	ck_assert_uint_ge(t.burst, 50 * MSEC);
	ck_assert_uint_le(t.burst, lived);
	ck_assert_str_eq(t.class, "gold");
	/* the same VM again is billed on, from where it was */
	vmm_start(&v, &rig, 1);
	after = view("vm1");
	ck_assert_uint_lt(after.burst_ns, lived);
	vmm_close(&v);
}
END_TEST

START_TEST(usage_over_restarts_is_without_gap_or_overlap)
{
	struct totals t;
	struct vmm v;
	uint64_t begin, until;

	start(POLICY(", \"default_class\": \"gold\""));
	vmm_start(&v, &rig, 1);
	begin = rig_clock();
	for (unsigned i = 0; i < 5; i++) {
		pass(10 * MSEC);
		restart();
	}
	t = usage(NULL);
	until = rig_clock();
	ck_assert_uint_ge(t.burst, 50 * MSEC);
	ck_assert_uint_le(t.burst, until - begin + 20 * MSEC);
	ck_assert_uint_eq(t.guaranteed, 3 * t.burst);
	vmm_close(&v);
}
END_TEST

START_TEST(usage_of_a_paused_vm_stands_still)
{
	uint64_t paused, now;
	struct vmm v;

	start("{\"classes\": {\"default\": {\"guaranteed\": 3, \"bill_paused\": false}}}");
	vmm_start(&v, &rig, 1);
	vmm_run_state(&v, CPUPOLICY_RUN_PAUSED);
	paused = view("vm1").burst_ns;
	pass(20 * MSEC);
	ck_assert_uint_eq(view("vm1").burst_ns, paused);
	ck_assert_uint_eq(usage(NULL).burst, paused);
	/* nor does a daemon that starts anew bill the time in which it stood: only what nobody knows of, since */
	pass(300 * MSEC);
	now = rig_clock();
	restart();
	pass(1 * MSEC);
	ck_assert_uint_le(usage(NULL).burst, paused + (rig_clock() - now));
	vmm_close(&v);
}
END_TEST

START_TEST(usage_goes_by_class_and_tenant)
{
	struct totals t, u;
	struct vmm v;

	start(POLICY(", \"default_class\": \"gold\""));
	vmm_start(&v, &rig, 1);
	pass(10 * MSEC);
	ck_assert_int_eq(ask(host_assign, "vm1", NULL, "acme", 0)->error, HOST_OK);
	t = usage("");
	pass(10 * MSEC);
	restart();
	u = usage("");
	ck_assert_uint_eq(t.burst, u.burst);
	ck_assert_uint_ge(t.burst, 10 * MSEC);
	ck_assert_uint_eq(t.rows, 1);
	u = usage("acme");
	ck_assert_uint_ge(u.burst, 10 * MSEC);
	ck_assert_uint_eq(u.rows, 1);
	vmm_close(&v);
}
END_TEST

START_TEST(usage_of_a_class_that_changed_while_the_daemon_was_away)
{
	struct totals t;
	struct vmm v;

	start(POLICY(", \"default_class\": \"gold\""));
	vmm_start(&v, &rig, 1);
	pass(10 * MSEC);
	rig_stop(&rig);
	rig_policy(&rig, POLICY(", \"default_class\": \"bronze\""));
	rig_start(&rig);
	pass(10 * MSEC);
	t = usage(NULL);
	ck_assert_uint_eq(t.rows, 2);
	ck_assert_uint_ge(t.guaranteed + t.burst, 4 * 20 * MSEC);
	vmm_close(&v);
}
END_TEST

START_TEST(usage_of_a_vm_that_starts_anew_as_another_machine)
{
	struct totals t;
	struct vmm v;

	start(POLICY(", \"default_class\": \"gold\""));
	vmm_start(&v, &rig, 1);
	ck_assert_int_eq(ask(host_resize, "vm1", 4, 0)->error, HOST_OK);
	pass(10 * MSEC);
	vmm_event(&v, CPUPOLICY_UNREGISTER, cpupolicy_unregister, .cause = CPUPOLICY_UNREGISTER_SHUTDOWN);
	vmm_close(&v);
	t = usage(NULL);
	vmm_connect(&v, &rig, 1);
	strcpy(v.name, "renamed");
	v.possible = 5;
	vmm_hello(&v);
	vmm_register(&v);
	pass(1000 * MSEC); /* queries have everything written once a second */
	ck_assert_uint_ge(usage(NULL).burst, t.burst + 900 * MSEC);
	vmm_close(&v);
}
END_TEST

/* The time of the next round comes at once. */
static void round_of_checkpoints(void)
{
	uint64_t rounds = host_counters(rig.host)->checkpoints;

	ck_assert_uint_ne(rig.host->meter.armed, UINT64_MAX);
	loop_timer_set(rig.host->meter.timer, 0);
	rig_until(&rig, host_counters(rig.host)->checkpoints == rounds + 1 && !rig.host->meter.in_round);
}

START_TEST(checkpoints_while_something_is_billed)
{
	struct vmm v[70]; /* more than a turn takes */
	uint64_t writes;

	rig.config->max_vms = 100;
	start("{\"classes\": {\"default\": {\"bill_paused\": false}}}");
	ck_assert_uint_eq(rig.host->meter.armed, UINT64_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		vmm_start(&v[i], &rig, (uint8_t)(i + 1));
	ck_assert_uint_ge(rig.host->meter.armed, rig_clock());
	writes = host_counters(rig.host)->writes;
	round_of_checkpoints();
	rig_until(&rig, host_counters(rig.host)->writes == writes + ARRAY_SIZE(v));
	/* then each minute */
	ck_assert_uint_gt(rig.host->meter.armed, rig_clock() + 50 * NSEC_PER_SEC);
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		vmm_run_state(&v[i], CPUPOLICY_RUN_PAUSED);
	rig_until(&rig, host_counters(rig.host)->writes == writes + 2 * ARRAY_SIZE(v));
	/* the last round finds nothing, and there is no other */
	round_of_checkpoints();
	ck_assert_uint_eq(rig.host->meter.armed, UINT64_MAX);
	vmm_run_state(&v[0], CPUPOLICY_RUN_RUNNING);
	ck_assert_uint_ne(rig.host->meter.armed, UINT64_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		vmm_close(&v[i]);
}
END_TEST

START_TEST(wall_clock_is_a_pair)
{
	struct usage_clock a = wallclock_now(), b = wallclock_now();

	ck_assert_uint_ge(b.boot, a.boot);
	ck_assert_uint_le(b.boot, rig_clock());
	ck_assert_uint_gt(a.real, UINT64_C(1700000000) * NSEC_PER_SEC);
}
END_TEST

/* ---- the rest ---- */

START_TEST(backup_of_the_records)
{
	char path[64], relative[] = "backup.sqlite";
	struct stat st;
	struct vmm v;

	start(POLICY(""));
	vmm_start(&v, &rig, 1);
	snprintf(path, sizeof(path), "%s/backup", rig.directory);
	ck_assert_int_eq(ask(host_backup, relative, 0)->error, HOST_INVALID);
	ck_assert_int_eq(ask(host_backup, path, 0)->error, HOST_OK);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(ask(host_backup, path, 0)->error, HOST_FILE_EXISTS);
	vmm_close(&v);
}
END_TEST

START_TEST(counters_count)
{
	const struct counters *c;
	uint64_t latencies = 0;
	struct vmm v;

	start(POLICY(""));
	vmm_start(&v, &rig, 1);
	c = host_counters(rig.host);
	ck_assert_uint_eq(c->registrations[COUNTERS_STARTED], 1);
	ck_assert_uint_ge(c->writes, 1);
	vmm_ask(&v, 1);
	vmm_ask(&v, 5);
	ck_assert_uint_eq(c->verdicts[COUNTERS_ALLOWED][CPUPOLICY_REASON_GRANTED], 1);
	ck_assert_uint_eq(c->verdicts[COUNTERS_DENIED][CPUPOLICY_REASON_NOT_ENABLED], 1);
	for (unsigned i = 0; i < COUNTERS_LATENCIES; i++)
		latencies += c->latency[i];
	ck_assert_uint_eq(latencies, 2);
	ck_assert_uint_gt(c->latency_sum, 0);
	/* a VMM whose page allows reports what it did */
	vmm_event(&v, CPUPOLICY_POWER, cpupolicy_power, .vcpu = 1, .event = CPUPOLICY_POWER_ON,
		  .reason = CPUPOLICY_REASON_GRANTED, .count = 1);
	ck_assert_uint_eq(c->verdicts[COUNTERS_ALLOWED][CPUPOLICY_REASON_GRANTED], 2);
	vmm_close(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("host_levels");
	TCase *tc = tcase_create("host_levels");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, who_does_not_fit_is_refused_and_told_why);
	tcase_add_test(tc, nothing_is_left_of_who_was_refused);
	tcase_add_test(tc, observed_it_is_let_in);
	tcase_add_test(tc, guarantee_takes_back_what_was_lent);
	tcase_add_test(tc, assignment_outlives_the_daemon);
	tcase_add_test(tc, refused_assignments);
	tcase_add_test(tc, assignment_on_a_full_disk);
	tcase_add_test(tc, assignments_that_fail_in_a_row);
	tcase_add_test(tc, assigned_class_that_went);
	tcase_add_test(tc, reload_moves_everybody);
	tcase_add_test(tc, reload_that_asks_a_vmm_that_cannot);
	tcase_add_test(tc, host_changes_are_told_once);
	tcase_add_test(tc, bad_reload_changes_nothing);
	tcase_add_test(tc, frozen_nothing_changes);
	tcase_add_test(tc, drained_no_new_vm);
	tcase_add_test(tc, modes_on_a_full_disk);
	tcase_add_test(tc, explanation_is_what_happens);
	tcase_add_test(tc, denial_says_which_rule);
	tcase_add_test(tc, credit_is_handed_over);
	tcase_add_test(tc, usage_is_enabled_vcpus_times_time);
	tcase_add_test(tc, usage_over_restarts_is_without_gap_or_overlap);
	tcase_add_test(tc, usage_of_a_paused_vm_stands_still);
	tcase_add_test(tc, usage_goes_by_class_and_tenant);
	tcase_add_test(tc, usage_of_a_class_that_changed_while_the_daemon_was_away);
	tcase_add_test(tc, usage_of_a_vm_that_starts_anew_as_another_machine);
	tcase_add_test(tc, checkpoints_while_something_is_billed);
	tcase_add_test(tc, wall_clock_is_a_pair);
	tcase_add_test(tc, backup_of_the_records);
	tcase_add_test(tc, counters_count);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
