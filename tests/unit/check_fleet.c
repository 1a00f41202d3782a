/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/fleet.h"
#include "daemon/core/plug.h"

#define SECOND UINT64_C(1000000000)
#define VMS    6
#define VCPUS  8
#define BOTH   (CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE)

/* ---- a host whose disk is quick and whose guests do as they are asked, unless a test says otherwise ---- */

static struct fleet f;
static struct service_class gold, silver, bronze;
static struct fleet_tenant tenants[2];
static struct fleet_vm vms[VMS];
static unsigned effects[VMS]; /* since the last event */
static uint64_t now, last_job;
static unsigned rows;
static uint64_t rows_ns;

static void on_row(const struct fleet_vm *m, const struct usage_row *row, void *userdata)
{
	rows++;
	rows_ns += row->guaranteed_ns + row->burst_ns;
}

static struct fleet_answer apply(struct fleet_event e);

static void store(struct fleet_vm *m)
{
	uint8_t enabled[VCPUS / 8], wanted[VCPUS / 8];

	vm_record_grants(m->core, enabled, wanted);
	apply((struct fleet_event){
		.kind = FLEET_STORED, .vm = m, .revision = m->core->revision, .ok = true, .granted = enabled});
}

static void drain_effects(void)
{
	struct fleet_vm *m;
	unsigned e;

	while ((m = fleet_next(&f, &e))) {
		effects[m - vms] |= e;
		if (e & VM_EFFECT_PAGE)
			vm_confirm(m->core, m->core->epoch, ++m->core->generation);
		if (e & VM_EFFECT_STORE)
			store(m);
	}
}

static struct fleet_answer apply(struct fleet_event e)
{
	struct fleet_answer answer;

	e.now = now;
	answer = fleet_apply(&f, &e);
	drain_effects();
	return answer;
}

static struct fleet_answer of(unsigned i, struct fleet_event e)
{
	memset(effects, 0, sizeof(effects));
	e.vm = &vms[i];
	return apply(e);
}

#define EVENT(i, ...) of(i, (struct fleet_event){__VA_ARGS__})
#define HOST(...)     apply((struct fleet_event){__VA_ARGS__})

static void pass(uint64_t time)
{
	uint64_t until = now + time;

	while (fleet_deadline(&f) <= until) {
		now = fleet_deadline(&f);
		HOST(.kind = FLEET_TICK);
	}
	now = until;
}

static void make_class(struct service_class *c, const char *name, uint32_t guaranteed, uint32_t limit,
		       uint32_t priority)
{
	class_default(c);
	c->name = name;
	c->guaranteed = guaranteed;
	c->limit = limit;
	c->priority = priority;
	c->retry_interval = 10 * SECOND;
}

static void assign(const struct fleet_vm *m, struct fleet_assignment *ret, void *userdata)
{
	*ret = (struct fleet_assignment){m->class, m->tenant};
}

static void setup(void)
{
	struct fleet_ops ops = {.row = on_row};
	struct usage_clock clock = {.boot = 0, .real = 1000 * USAGE_HOUR};

	now = last_job = 0;
	rows = 0;
	rows_ns = 0;
	memset(vms, 0, sizeof(vms));
	make_class(&gold, "gold", 4, 8, 9);
	make_class(&silver, "silver", 2, 8, 5);
	make_class(&bronze, "bronze", 1, 6, 0);
	tenants[0] = (struct fleet_tenant){"acme", 10};
	tenants[1] = (struct fleet_tenant){"wile", FLEET_UNLIMITED};
	fleet_init(&f, &ops, &clock);
	ck_assert_int_eq(
		fleet_reload(&f, &(struct fleet_policy){.tenants = tenants, .n_tenants = 2, .assign = assign}, now), 0);
}

static void teardown(void)
{
	for (unsigned i = 0; i < VMS; i++)
		vms[i].core = vm_free(vms[i].core);
	fleet_clear(&f);
}

static void add(unsigned i, const struct service_class *class, uint32_t tenant)
{
	vms[i].name = "vm";
	vms[i].uuid[0] = (uint8_t)(i + 1);
	ck_assert_int_eq(vm_new(&vms[i].core, VCPUS, class), 0);
	ck_assert_int_eq(fleet_add(&f, &vms[i], &(struct fleet_assignment){class, tenant}, now), 0);
	drain_effects();
}

static struct fleet_answer start(unsigned i, uint32_t boot)
{
	struct cpupolicy_vcpu vcpus[VCPUS] = {{.flags = CPUPOLICY_VCPU_ONLINE}};
	struct vm_registration reg = {.flags = BOTH, .boot = boot, .vcpus = vcpus};

	reg.run_state = CPUPOLICY_RUN_RUNNING;
	return EVENT(i, .kind = FLEET_START, .registration = &reg);
}

static void add_started(unsigned i, const struct service_class *class, uint32_t tenant, uint32_t boot)
{
	add(i, class, tenant);
	ck_assert_int_eq(start(i, boot).rule, RULE_NONE);
}

static enum rule resize(unsigned i, uint32_t count)
{
	struct fleet_answer answer = EVENT(i, .kind = FLEET_RESIZE, .count = count, .job = last_job + 1);

	last_job += answer.rule == RULE_NONE;
	return answer.rule;
}

/* The guest answers all that it was asked: takes what is new, gives back what is wanted back. */
static void obey(unsigned i)
{
	for (uint32_t k = 1; k < VCPUS; k++) {
		uint8_t flags = vms[i].core->vcpus[k].flags;

		if ((flags & (VCPU_ENABLED | VCPU_WANTED)) == VCPU_ENABLED)
			EVENT(i, .kind = FLEET_EJECT, .vcpu = k, .cause = CPUPOLICY_EJECT_REQUESTED);
		else if ((flags & VCPU_DURABLE) && !(flags & VCPU_ACKED))
			EVENT(i, .kind = FLEET_OST, .vcpu = k, .ost_event = 1);
	}
}

static void refuse(unsigned i)
{
	for (uint32_t k = 1; k < VCPUS; k++)
		if ((vms[i].core->vcpus[k].flags & (VCPU_ENABLED | VCPU_WANTED)) == VCPU_ENABLED)
			EVENT(i, .kind = FLEET_OST, .vcpu = k, .ost_event = 3, .ost_status = 0x82);
}

static uint32_t has(unsigned i)
{
	return plug_count_enabled(vms[i].core);
}

static struct fleet_view view(unsigned i)
{
	struct fleet_view v;

	fleet_view(&f, &vms[i], now, &v);
	return v;
}

#define ck_rule(a, b) ck_assert_str_eq(rule_name(a), rule_name(b))

/* ---- admission ---- */

START_TEST(a_guarantee_that_does_not_fit_is_refused_with_numbers)
{
	struct fleet_answer answer;
	char text[EXPLAIN_TEXT_SIZE];

	HOST(.kind = FLEET_CAPACITY, .count = 7);
	add_started(0, &gold, FLEET_NO_TENANT, 1);
	add(1, &gold, FLEET_NO_TENANT);
	answer = start(1, 1);
	ck_rule(answer.rule, RULE_CAPACITY);
	ck_assert_int_eq(vms[1].core->link, VM_STOPPED);
	explain_text(text, sizeof(text), "vm", &answer.line);
	ck_assert_str_eq(
		text, "VM vm is to have 4 vCPUs guaranteed, and of the host's 7 vCPUs 4 are reserved for other VMs: 3 "
		      "are free");
	add_started(2, &silver, FLEET_NO_TENANT, 1);
}
END_TEST

START_TEST(a_quota_refuses_too)
{
	struct fleet_answer answer;

	add_started(0, &gold, 0, 4);
	add_started(1, &gold, 0, 4);
	add(2, &gold, 0);
	answer = start(2, 4);
	ck_rule(answer.rule, RULE_TENANT);
	ck_assert_str_eq(answer.line.who, "acme");
	ck_assert_uint_eq(answer.line.bound, 10);
	ck_assert_uint_eq(answer.line.others, 8);
	add_started(3, &gold, 1, 4);
}
END_TEST

START_TEST(who_reconnects_is_never_refused)
{
	struct cpupolicy_vcpu vcpus[VCPUS] = {{.flags = CPUPOLICY_VCPU_ONLINE}};
	struct vm_registration reg = {.flags = BOTH, .run_state = CPUPOLICY_RUN_RUNNING, .vcpus = vcpus};

	add_started(0, &gold, FLEET_NO_TENANT, 4);
	EVENT(0, .kind = FLEET_LOST);
	HOST(.kind = FLEET_CAPACITY, .count = 1);
	HOST(.kind = FLEET_DRAIN, .on = true);
	EVENT(0, .kind = FLEET_RESUME, .registration = &reg);
	ck_assert_int_eq(vms[0].core->link, VM_CONNECTED);
	ck_assert_uint_eq(vm_target(vms[0].core), 4);
}
END_TEST

START_TEST(observed_it_is_let_in)
{
	struct fleet_answer answer;

	gold.observe = true;
	HOST(.kind = FLEET_CAPACITY, .count = 3);
	add(0, &gold, FLEET_NO_TENANT);
	answer = start(0, 4);
	ck_rule(answer.rule, RULE_NONE);
	ck_assert(answer.would_refuse);
	ck_rule(answer.line.rule, RULE_CAPACITY);
}
END_TEST

/* ---- room ---- */

START_TEST(a_boot_set_within_the_room)
{
	HOST(.kind = FLEET_CAPACITY, .count = 6);
	add_started(0, &silver, FLEET_NO_TENANT, 3);
	add_started(1, &silver, FLEET_NO_TENANT, 8);
	/* 2 + 2 guaranteed, 2 to lend: the second has one of them, and waits for no more. */
	ck_assert_uint_eq(has(0), 3);
	ck_assert_uint_eq(has(1), 3);
	ck_assert_uint_eq(vms[1].core->boot, 3);
	ck_assert_uint_eq(vms[1].core->desired, 8);
	ck_rule(vms[1].bound, RULE_CAPACITY);
}
END_TEST

START_TEST(a_burst_waits_with_its_clock_standing)
{
	HOST(.kind = FLEET_CAPACITY, .count = 6);
	add_started(0, &silver, FLEET_NO_TENANT, 4);
	add_started(1, &silver, FLEET_NO_TENANT, 2);
	ck_rule(resize(1, 4), RULE_NONE);
	/* Max-min: one each, when the first has given back one of its two. */
	ck_assert_uint_eq(has(1), 2);
	ck_assert(view(1).waiting && view(1).waits_for_overdue);
	ck_assert_uint_eq(view(0).overdue, 1);
	ck_assert(effects[0] & VM_EFFECT_PAGE);
	pass(1000 * SECOND);
	ck_assert_uint_eq(vms[1].core->job.id, 1);
	obey(0);
	ck_assert_uint_eq(has(0), 3);
	ck_assert_uint_eq(has(1), 3);
	ck_rule(vms[1].bound, RULE_CAPACITY);
	pass(1000 * SECOND);
	ck_assert_uint_eq(vms[1].core->job.id, 1);
	/* Room at last: the job completes. */
	ck_rule(resize(0, 2), RULE_NONE);
	obey(0);
	obey(1);
	ck_assert_uint_eq(has(1), 4);
	ck_assert_uint_eq(vms[1].core->job.id, 0);
	ck_assert_int_eq(vms[1].core->last_job.result, JOB_DONE);
	ck_rule(vms[1].bound, RULE_NONE);
}
END_TEST

START_TEST(a_guarantee_is_granted_at_once)
{
	HOST(.kind = FLEET_CAPACITY, .count = 8);
	add_started(0, &bronze, FLEET_NO_TENANT, 6);
	add_started(1, &gold, FLEET_NO_TENANT, 1);
	ck_assert_uint_eq(has(0), 6);
	ck_rule(resize(1, 4), RULE_NONE);
	ck_assert_uint_eq(has(1), 4);
	ck_assert_uint_eq(vm_target(vms[0].core), 4);
	ck_assert_uint_eq(f.ledger.sums.overdue, 2);
	ck_assert_uint_eq(f.ledger.sums.allowed, 8);
}
END_TEST

START_TEST(a_higher_priority_takes_the_burst_of_a_lower_one)
{
	HOST(.kind = FLEET_CAPACITY, .count = 9);
	add_started(0, &bronze, FLEET_NO_TENANT, 5);
	add_started(1, &gold, FLEET_NO_TENANT, 4);
	ck_rule(resize(1, 7), RULE_NONE);
	ck_assert_uint_eq(has(1), 4);
	ck_assert_uint_eq(vm_target(vms[0].core), 2);
	obey(0);
	ck_assert_uint_eq(has(1), 7);
	ck_assert_uint_eq(vms[0].core->desired, 5);
}
END_TEST

START_TEST(refusals_of_a_count)
{
	add_started(0, &gold, 0, 4);
	HOST(.kind = FLEET_CAPACITY, .count = 7);
	ck_rule(resize(0, 0), RULE_RANGE);
	ck_rule(resize(0, 9), RULE_RANGE);
	ck_rule(resize(0, 8), RULE_CAPACITY);
	ck_rule(resize(0, 7), RULE_NONE);
	HOST(.kind = FLEET_CAPACITY, .count = 100);
	gold.limit = 6;
	ck_rule(resize(0, 7), RULE_LIMIT);
	gold.limit = 8;
	tenants[0].quota = 5;
	ck_assert_int_eq(
		fleet_reload(&f, &(struct fleet_policy){.tenants = tenants, .n_tenants = 2, .assign = assign}, now), 0);
	ck_rule(resize(0, 6), RULE_TENANT);
	/* What is guaranteed is not refused, whatever has become of the bounds. */
	HOST(.kind = FLEET_CAPACITY, .count = 2);
	ck_rule(resize(0, 4), RULE_NONE);
	ck_assert_uint_eq(vm_target(vms[0].core), 4);
}
END_TEST

/* ---- credit ---- */

START_TEST(out_of_credit)
{
	uint64_t job;

	silver.burst = (struct class_burst){
		.metered = true, .cap = 100 * SECOND, .initial = 20 * SECOND, .resume = 10 * SECOND};
	add_started(0, &silver, FLEET_NO_TENANT, 4);
	pass(10 * SECOND - 1);
	ck_assert_uint_eq(vm_target(vms[0].core), 4);
	pass(1);
	ck_assert_uint_eq(vm_target(vms[0].core), 2);
	ck_assert_uint_eq(vms[0].core->desired, 4);
	ck_rule(vms[0].bound, RULE_CREDIT);
	ck_assert(view(0).spent);
	/* It is slow, and owes. */
	pass(5 * SECOND);
	ck_assert_int_eq(view(0).balance, -10 * (int64_t)SECOND);
	obey(0);
	pass(100 * SECOND);
	ck_assert_int_eq(view(0).balance, -10 * (int64_t)SECOND);
	/* Below its guarantee it earns: 20 s for what it owes and the threshold. */
	ck_rule(resize(0, 1), RULE_NONE);
	obey(0);
	pass(15 * SECOND);
	ck_rule(resize(0, 3), RULE_NONE);
	job = vms[0].core->job.id;
	ck_assert_uint_eq(has(0), 2);
	ck_rule(vms[0].bound, RULE_CREDIT);
	ck_rule(resize(0, 1), RULE_NONE);
	ck_assert_uint_ne(job, vms[0].core->job.id);
	obey(0);
	pass(5 * SECOND);
	ck_assert(!view(0).spent);
	ck_rule(resize(0, 3), RULE_NONE);
	ck_assert_uint_eq(has(0), 3);
}
END_TEST

START_TEST(credit_moves_with_the_vm)
{
	struct fleet_saved saved;

	silver.burst = (struct class_burst){.metered = true, .cap = 100 * SECOND, .initial = 20 * SECOND};
	add_started(0, &silver, FLEET_NO_TENANT, 3);
	pass(4 * SECOND);
	fleet_save(&f, &vms[0], now, &saved);
	ck_assert_int_eq(saved.balance, 16 * (int64_t)SECOND);
	add_started(1, &silver, FLEET_NO_TENANT, 3);
	ck_rule(EVENT(1, .kind = FLEET_IMPORT, .balance = saved.balance, .spent = saved.credit_spent).rule, RULE_NONE);
	ck_assert_int_eq(view(1).balance, 16 * (int64_t)SECOND);
	EVENT(1, .kind = FLEET_IMPORT, .balance = -1, .spent = true);
	ck_assert_uint_eq(vm_target(vms[1].core), 2);
}
END_TEST

/* ---- usage ---- */

static uint64_t used(unsigned i)
{
	uint64_t guaranteed, burst;

	fleet_usage(&f, &vms[i], now, &guaranteed, &burst);
	return guaranteed + burst;
}

START_TEST(usage_follows_the_grant)
{
	add_started(0, &silver, FLEET_NO_TENANT, 3);
	pass(10 * SECOND);
	ck_assert_uint_eq(used(0), 30 * SECOND);
	EVENT(0, .kind = FLEET_LOST);
	pass(10 * SECOND);
	ck_assert_uint_eq(used(0), 60 * SECOND);
	/* What it says when it is back takes nothing away. */
	{
		struct cpupolicy_vcpu vcpus[VCPUS] = {{.flags = CPUPOLICY_VCPU_ONLINE}};
		struct vm_registration reg = {.flags = BOTH, .run_state = CPUPOLICY_RUN_PAUSED, .vcpus = vcpus};

		vcpus[2].flags = CPUPOLICY_VCPU_EJECTED | CPUPOLICY_VCPU_EJECT_OWN;
		EVENT(0, .kind = FLEET_RESUME, .registration = &reg);
	}
	ck_assert_uint_eq(used(0), 60 * SECOND);
	ck_assert_uint_eq(has(0), 2);
	pass(10 * SECOND);
	ck_assert_uint_eq(used(0), 80 * SECOND);
	EVENT(0, .kind = FLEET_LOST, .gone = true);
	pass(10 * SECOND);
	ck_assert_uint_eq(used(0), 80 * SECOND);
	fleet_remove(&f, &vms[0], now);
	ck_assert_uint_eq(rows, 1);
	ck_assert_uint_eq(rows_ns, used(0));
	vms[0].core = vm_free(vms[0].core);
}
END_TEST

START_TEST(paused_or_not_as_the_class_says)
{
	silver.bill_paused = false;
	add_started(0, &silver, FLEET_NO_TENANT, 2);
	add_started(1, &gold, FLEET_NO_TENANT, 2);
	for (unsigned i = 0; i < 2; i++)
		EVENT(i, .kind = FLEET_RUN_STATE, .run_state = CPUPOLICY_RUN_PAUSED);
	pass(10 * SECOND);
	ck_assert_uint_eq(used(0), 0);
	ck_assert_uint_eq(used(1), 20 * SECOND);
	/* Nobody knows any more: billed. */
	EVENT(0, .kind = FLEET_LOST);
	pass(10 * SECOND);
	ck_assert_uint_eq(used(0), 20 * SECOND);
}
END_TEST

START_TEST(hours_and_classes_end_rows)
{
	add_started(0, &silver, FLEET_NO_TENANT, 2);
	pass(USAGE_HOUR - 1);
	ck_assert_uint_eq(rows, 0);
	pass(1);
	ck_assert_uint_eq(rows, 1);
	ck_assert_uint_eq(rows_ns, 2 * USAGE_HOUR);
	pass(SECOND);
	ck_rule(EVENT(0, .kind = FLEET_ASSIGN, .assignment = {&gold, FLEET_NO_TENANT}).rule, RULE_NONE);
	ck_assert(effects[0] & FLEET_EFFECT_ROW);
	ck_assert_uint_eq(rows, 2);
	HOST(.kind = FLEET_CLOCK, .clock = {.boot = now, .real = 5000 * USAGE_HOUR});
	pass(SECOND);
	HOST(.kind = FLEET_CLOCK, .clock = {.boot = now, .real = 4000 * USAGE_HOUR});
	ck_assert_uint_eq(used(0), 2 * USAGE_HOUR + 4 * SECOND);
}
END_TEST

/* ---- restart ---- */

static void restart(bool alive, uint64_t away)
{
	struct fleet_ops ops = {.row = on_row};
	struct usage_clock clock = f.clock;
	struct fleet_saved saved;
	uint8_t enabled[VCPUS / 8], wanted[VCPUS / 8];
	uint32_t boot = vms[0].core->boot, desired = vms[0].core->desired;

	fleet_save(&f, &vms[0], now, &saved);
	vm_record_grants(vms[0].core, enabled, wanted);
	teardown();
	now += away;
	fleet_init(&f, &ops, &clock);
	f.now = now;
	memset(vms, 0, sizeof(vms));
	ck_assert_int_eq(vm_new(&vms[0].core, VCPUS, &silver), 0);
	vms[0].name = "vm";
	vms[0].uuid[0] = 1;
	vms[0].core->desired = desired;
	vms[0].core->boot = boot;
	vms[0].core->boot_removable = true;
	vm_restore_grants(vms[0].core, enabled, wanted);
	ck_assert_int_eq(fleet_add(&f, &vms[0], &(struct fleet_assignment){&silver, FLEET_NO_TENANT}, now), 0);
	fleet_restore(&f, &vms[0], &saved, alive, now);
	drain_effects();
	HOST(.kind = FLEET_TICK);
}

START_TEST(a_restart_bills_what_went_on)
{
	silver.burst = (struct class_burst){.metered = true, .cap = 100 * SECOND, .initial = 50 * SECOND};
	add_started(0, &silver, FLEET_NO_TENANT, 3);
	pass(10 * SECOND);
	restart(true, 5 * SECOND);
	ck_assert_uint_eq(vms[0].usage.row.guaranteed_ns, 30 * SECOND);
	ck_assert_uint_eq(vms[0].usage.row.burst_ns, 15 * SECOND);
	ck_assert_uint_eq(vms[0].usage.row.number, 1);
	ck_assert_int_eq(view(0).balance, 35 * (int64_t)SECOND);
	ck_assert_uint_eq(has(0), 3);
}
END_TEST

START_TEST(a_restart_bills_nobody_who_is_gone)
{
	add_started(0, &silver, FLEET_NO_TENANT, 3);
	pass(10 * SECOND);
	restart(false, 5 * SECOND);
	EVENT(0, .kind = FLEET_LOST, .gone = true);
	ck_assert_uint_eq(vms[0].usage.row.guaranteed_ns, 20 * SECOND);
	ck_assert_uint_eq(vms[0].usage.row.burst_ns, 10 * SECOND);
}
END_TEST

/* As at a start: the disk does not answer in between. */
static void lost_meanwhile(unsigned i)
{
	fleet_apply(&f, &(struct fleet_event){.kind = FLEET_LOST, .now = now, .vm = &vms[i], .gone = true});
}

START_TEST(what_the_gone_leave_is_not_given_to_the_gone)
{
	struct fleet_saved saved;

	HOST(.kind = FLEET_CAPACITY, .count = 6);
	for (unsigned i = 0; i < 3; i++) {
		add(i, &bronze, FLEET_NO_TENANT);
		vms[i].core->desired = 6;
		vms[i].core->desired_set = true;
		vm_restore_grants(vms[i].core, &(uint8_t){0x3}, &(uint8_t){0x3});
		fleet_save(&f, &vms[i], now, &saved);
		fleet_restore(&f, &vms[i], &saved, i == 0, now);
	}
	lost_meanwhile(1);
	ck_assert_uint_eq(has(0), 2);
	ck_assert_uint_eq(has(2), 2);
	fleet_remove(&f, &vms[1], now);
	ck_assert_uint_eq(has(2), 2);
	lost_meanwhile(2);
	ck_assert_uint_eq(has(0), 2);
	HOST(.kind = FLEET_TICK);
	ck_assert_uint_eq(has(0), 6);
	ck_assert_uint_eq(has(2), 0);
}
END_TEST

START_TEST(what_is_restored_on_a_frozen_host_counts)
{
	struct fleet_saved saved;

	HOST(.kind = FLEET_CAPACITY, .count = 5);
	HOST(.kind = FLEET_FREEZE, .on = true);
	for (unsigned i = 0; i < 2; i++) {
		add(i, &bronze, FLEET_NO_TENANT);
		vms[i].core->desired = 3;
		vm_restore_grants(vms[i].core, &(uint8_t){0x3}, &(uint8_t){0x3});
		fleet_save(&f, &vms[i], now, &saved);
		fleet_restore(&f, &vms[i], &saved, true, now);
	}
	HOST(.kind = FLEET_TICK);
	ck_assert_uint_eq(f.ledger.sums.held, 4);
	ck_assert_uint_eq(view(0).allowance, 3);
	ck_assert_uint_eq(view(1).allowance, 2);
	ck_assert_uint_eq(view(1).overdue, 0);
	/* It stands still. */
	ck_assert_uint_eq(has(0), 2);
	HOST(.kind = FLEET_FREEZE, .on = false);
	ck_assert_uint_eq(has(0), 3);
}
END_TEST

/* ---- operators ---- */

START_TEST(freeze)
{
	HOST(.kind = FLEET_CAPACITY, .count = 20);
	silver.burst = (struct class_burst){.metered = true, .cap = SECOND, .initial = SECOND};
	add_started(0, &silver, FLEET_NO_TENANT, 4);
	HOST(.kind = FLEET_FREEZE, .on = true);
	ck_rule(resize(0, 5), RULE_FROZEN);
	ck_rule(EVENT(0, .kind = FLEET_ASSIGN, .assignment = {&gold, FLEET_NO_TENANT}).rule, RULE_FROZEN);
	ck_rule(EVENT(0, .kind = FLEET_IMPORT, .balance = 5).rule, RULE_FROZEN);
	ck_assert_int_eq(
		fleet_reload(&f, &(struct fleet_policy){.tenants = tenants, .n_tenants = 2, .assign = assign}, now),
		-EBUSY);
	add(1, &silver, FLEET_NO_TENANT);
	ck_rule(start(1, 1).rule, RULE_FROZEN);
	HOST(.kind = FLEET_CAPACITY, .count = 2);
	pass(10 * SECOND);
	ck_assert_uint_eq(plug_count_wanted(vms[0].core), 4);
	ck_assert_int_lt(view(0).balance, 0);
	/* What the guest gives back is taken. */
	EVENT(0, .kind = FLEET_EJECT, .vcpu = 3, .cause = CPUPOLICY_EJECT_GUEST);
	ck_assert_uint_eq(has(0), 3);
	ck_assert_uint_eq(vms[0].core->desired, 3);
	HOST(.kind = FLEET_FREEZE, .on = false);
	ck_assert_uint_eq(plug_count_wanted(vms[0].core), 2);
	ck_assert_uint_eq(f.ledger.capacity, 2);
}
END_TEST

START_TEST(drain)
{
	add_started(0, &silver, FLEET_NO_TENANT, 4);
	HOST(.kind = FLEET_DRAIN, .on = true);
	ck_assert_uint_eq(vm_target(vms[0].core), 2);
	ck_rule(vms[0].bound, RULE_DRAINED);
	add(1, &silver, FLEET_NO_TENANT);
	ck_rule(start(1, 1).rule, RULE_DRAINED);
	HOST(.kind = FLEET_DRAIN, .on = false);
	ck_assert_uint_eq(vm_target(vms[0].core), 4);
	ck_rule(start(1, 1).rule, RULE_NONE);
}
END_TEST

START_TEST(assignment_asks_for_room)
{
	HOST(.kind = FLEET_CAPACITY, .count = 5);
	add_started(0, &silver, FLEET_NO_TENANT, 2);
	add_started(1, &silver, FLEET_NO_TENANT, 2);
	ck_rule(EVENT(0, .kind = FLEET_ASSIGN, .assignment = {&gold, FLEET_NO_TENANT}).rule, RULE_CAPACITY);
	ck_assert_ptr_eq(vms[0].class, &silver);
	ck_rule(EVENT(0, .kind = FLEET_ASSIGN, .assignment = {&bronze, FLEET_NO_TENANT}).rule, RULE_NONE);
	ck_rule(EVENT(1, .kind = FLEET_ASSIGN, .assignment = {&gold, FLEET_NO_TENANT}).rule, RULE_NONE);
	ck_assert_ptr_eq(vms[1].core->class, &gold);
	/* To a smaller host, who asks for no more is welcome. */
	HOST(.kind = FLEET_CAPACITY, .count = 1);
	ck_rule(EVENT(1, .kind = FLEET_ASSIGN, .assignment = {&silver, 1}).rule, RULE_NONE);
}
END_TEST

static const struct service_class *everybody;

static void assign_all(const struct fleet_vm *m, struct fleet_assignment *ret, void *userdata)
{
	*ret = (struct fleet_assignment){everybody, 0};
}

START_TEST(a_reload_orphans_nobody)
{
	struct fleet_policy policy = {.tenants = tenants, .n_tenants = 1, .assign = assign_all};

	HOST(.kind = FLEET_CAPACITY, .count = 6);
	for (unsigned i = 0; i < 3; i++)
		add_started(i, &silver, 1, 4);
	everybody = &gold;
	tenants[0].quota = 3;
	ck_assert_int_eq(fleet_reload(&f, &policy, now), 0);
	drain_effects();
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_ptr_eq(vms[i].core->class, &gold);
		ck_assert_uint_eq(vm_target(vms[i].core), 4);
	}
	policy.observe = true;
	ck_assert_int_eq(fleet_reload(&f, &policy, now), 0);
	drain_effects();
	ck_assert(vms[0].core->observe);
	ck_assert(vm_word(vms[0].core, 7) & CPUPOLICY_WORD_OBSERVE);
}
END_TEST

/* ---- guests that will not ---- */

START_TEST(retry)
{
	uint8_t serial;

	HOST(.kind = FLEET_CAPACITY, .count = 6);
	add_started(0, &bronze, FLEET_NO_TENANT, 6);
	ck_rule(resize(0, 4), RULE_NONE);
	serial = vms[0].core->vcpus[5].serial;
	refuse(0);
	ck_assert_int_eq(vms[0].core->last_job.result, JOB_GUEST_REFUSED);
	pass(10 * SECOND);
	ck_assert_uint_eq(vms[0].core->vcpus[5].serial, (uint8_t)(serial + 1));
	ck_assert_int_eq(vms[0].core->vcpus[5].answer, VCPU_ANSWER_NONE);
	/* Its time stands while it is paused. */
	EVENT(0, .kind = FLEET_RUN_STATE, .run_state = CPUPOLICY_RUN_PAUSED);
	pass(100 * SECOND);
	ck_assert_uint_eq(vms[0].core->vcpus[5].serial, (uint8_t)(serial + 1));
	EVENT(0, .kind = FLEET_RUN_STATE, .run_state = CPUPOLICY_RUN_RUNNING);
	pass(10 * SECOND);
	ck_assert_uint_eq(vms[0].core->vcpus[5].serial, (uint8_t)(serial + 2));
	obey(0);
	ck_assert_uint_eq(has(0), 4);
	ck_assert_uint_ge(fleet_deadline(&f), now + 100 * SECOND);
}
END_TEST

START_TEST(revoke)
{
	uint64_t word;

	bronze.refusal = CLASS_REVOKE;
	add_started(0, &bronze, FLEET_NO_TENANT, 4);
	EVENT(0, .kind = FLEET_POWER_ON, .vcpu = 3, .reason = CPUPOLICY_REASON_GRANTED);
	ck_rule(resize(0, 2), RULE_NONE);
	/* Asked back, it may still be used. */
	ck_assert_int_eq(EVENT(0, .kind = FLEET_ASK, .vcpu = 3).verdict.psci, CPUPOLICY_PSCI_SUCCESS);
	refuse(0);
	/* What is off is gone; what is on cannot come back once it is off. */
	ck_assert(!(vms[0].core->vcpus[2].flags & VCPU_ENABLED));
	word = vm_word(vms[0].core, 3);
	ck_assert(word & CPUPOLICY_WORD_ENABLED);
	ck_assert_uint_eq((word & CPUPOLICY_WORD_VERDICT_MASK) >> CPUPOLICY_WORD_VERDICT_SHIFT, CPUPOLICY_VERDICT_DENY);
	ck_assert_int_eq(EVENT(0, .kind = FLEET_ASK, .vcpu = 3).verdict.psci, CPUPOLICY_PSCI_DENIED);
	ck_assert_uint_eq(has(0), 3);
	EVENT(0, .kind = FLEET_POWER_OFF, .vcpu = 3);
	ck_assert_uint_eq(has(0), 2);
	ck_assert(!(vm_word(vms[0].core, 3) & CPUPOLICY_WORD_ENABLED));
}
END_TEST

START_TEST(revoke_who_does_not_answer)
{
	bronze.refusal = CLASS_REVOKE;
	HOST(.kind = FLEET_CAPACITY, .count = 6);
	add_started(0, &bronze, FLEET_NO_TENANT, 5);
	HOST(.kind = FLEET_CAPACITY, .count = 3);
	ck_assert_uint_eq(has(0), 5);
	pass(10 * SECOND - 1);
	ck_assert_uint_eq(has(0), 5);
	pass(1);
	ck_assert_uint_eq(has(0), 3);
}
END_TEST

START_TEST(plug_rate)
{
	silver.plugs = (struct class_plugs){.per_minute = 6, .burst = 2};
	add_started(0, &silver, FLEET_NO_TENANT, 2);
	ck_rule(resize(0, 6), RULE_NONE);
	ck_assert_uint_eq(has(0), 4);
	ck_rule(vms[0].bound, RULE_PLUG_RATE);
	ck_assert(view(0).waiting);
	pass(10 * SECOND - 1);
	ck_assert_uint_eq(has(0), 4);
	pass(60); /* the bucket's clock is coarser */
	ck_assert_uint_eq(has(0), 5);
	obey(0);
	pass(10 * SECOND);
	obey(0);
	ck_assert_uint_eq(has(0), 6);
	ck_assert_int_eq(vms[0].core->last_job.result, JOB_DONE);
	/* Taking back is never limited. */
	ck_rule(resize(0, 1), RULE_NONE);
	ck_assert_uint_eq(plug_count_wanted(vms[0].core), 1);
}
END_TEST

/* ---- explain ---- */

START_TEST(explained_before_it_happens)
{
	struct explain e;
	char text[EXPLAIN_TEXT_SIZE];

	HOST(.kind = FLEET_CAPACITY, .count = 6);
	add_started(0, &silver, FLEET_NO_TENANT, 2);
	add_started(1, &silver, FLEET_NO_TENANT, 2);
	fleet_explain(&f, &vms[1], 6, now, &e);
	ck_rule(e.refused, RULE_NONE);
	ck_assert_uint_eq(e.target, 4);
	ck_rule(e.bound, RULE_CAPACITY);
	for (size_t i = 0; i < e.n; i++) {
		if (e.lines[i].rule != RULE_CAPACITY)
			continue;
		ck_assert_int_eq(e.lines[i].outcome, EXPLAIN_WAITS);
		explain_text(text, sizeof(text), "vm", &e.lines[i]);
		ck_assert_str_eq(text, "of the host's 6 vCPUs other VMs hold 2: VM vm waits until there is room for 6");
	}
	/* Nothing has changed by it. */
	ck_assert_uint_eq(view(1).allowance, 2);
	ck_rule(resize(1, 6), RULE_NONE);
	ck_assert_uint_eq(vm_target(vms[1].core), 4);
}
END_TEST

START_TEST(a_denial_says_what_stands_behind_it)
{
	HOST(.kind = FLEET_CAPACITY, .count = 3);
	add_started(0, &silver, FLEET_NO_TENANT, 6);
	ck_rule(EVENT(0, .kind = FLEET_ASK, .vcpu = 2).rule, RULE_NONE);
	ck_rule(EVENT(0, .kind = FLEET_ASK, .vcpu = 5).rule, RULE_CAPACITY);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fleet");
	TCase *t = tcase_create("fleet");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_guarantee_that_does_not_fit_is_refused_with_numbers);
	tcase_add_test(t, a_quota_refuses_too);
	tcase_add_test(t, who_reconnects_is_never_refused);
	tcase_add_test(t, observed_it_is_let_in);
	tcase_add_test(t, a_boot_set_within_the_room);
	tcase_add_test(t, a_burst_waits_with_its_clock_standing);
	tcase_add_test(t, a_guarantee_is_granted_at_once);
	tcase_add_test(t, a_higher_priority_takes_the_burst_of_a_lower_one);
	tcase_add_test(t, refusals_of_a_count);
	tcase_add_test(t, out_of_credit);
	tcase_add_test(t, credit_moves_with_the_vm);
	tcase_add_test(t, usage_follows_the_grant);
	tcase_add_test(t, paused_or_not_as_the_class_says);
	tcase_add_test(t, hours_and_classes_end_rows);
	tcase_add_test(t, a_restart_bills_what_went_on);
	tcase_add_test(t, a_restart_bills_nobody_who_is_gone);
	tcase_add_test(t, what_the_gone_leave_is_not_given_to_the_gone);
	tcase_add_test(t, what_is_restored_on_a_frozen_host_counts);
	tcase_add_test(t, freeze);
	tcase_add_test(t, drain);
	tcase_add_test(t, assignment_asks_for_room);
	tcase_add_test(t, a_reload_orphans_nobody);
	tcase_add_test(t, retry);
	tcase_add_test(t, revoke);
	tcase_add_test(t, revoke_who_does_not_answer);
	tcase_add_test(t, plug_rate);
	tcase_add_test(t, explained_before_it_happens);
	tcase_add_test(t, a_denial_says_what_stands_behind_it);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
