/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/core/uuid.h"
#include "daemon/settings/policy.h"
#include "daemon/base/util.h"

#define UUID "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

static char directory[64];
static struct policy *policy;
static char *error;

static void setup(void)
{
	strcpy(directory, "/tmp/check-policy-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	policy = NULL;
	error = NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	policy = policy_unref(policy);
	free(error);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
	ck_assert_int_eq(fclose(f), 0);
}

static int try_load(void)
{
	policy = policy_unref(policy);
	free(error);
	error = NULL;
	return policy_load(&policy, directory, &error);
}

static void load(void)
{
	int r = try_load();

	ck_assert_msg(r == 0, "%s", error ? error : "no error text");
	ck_assert_ptr_nonnull(policy);
	ck_assert_ptr_null(error);
}

static void load_text(const char *text)
{
	put("10.json", text);
	load();
}

/* Parsed from memory as "a", "b". */
static int parse(const char *a, const char *b)
{
	struct policy_source sources[] = {{(char *)"a", (char *)a}, {(char *)"b", (char *)b}};

	policy = policy_unref(policy);
	free(error);
	error = NULL;
	return policy_parse(&policy, sources, b ? 2 : 1, &error);
}

static struct policy_decision decide(const char *name, const char *uuid, uid_t uid, const char *class,
				     const char *tenant)
{
	struct policy_subject subject = {.name = name, .uid = uid, .class = class, .tenant = tenant};
	struct policy_decision decision;

	if (uuid)
		ck_assert_int_eq(uuid_parse(subject.uuid, uuid), 0);
	policy_assign(policy, &subject, &decision);
	return decision;
}

static void expect_class(const char *expected, const char *name, const char *uuid, uid_t uid)
{
	struct policy_decision d = decide(name, uuid, uid, NULL, NULL);

	ck_assert_msg(strcmp(d.assignment.class->name, expected) == 0, "%s: %s, not %s", name, d.assignment.class->name,
		      expected);
}

/* ---- what is right ---- */

static void expect_built_in(void)
{
	struct service_class expected;
	size_t n;

	class_default(&expected);
	ck_assert_ptr_nonnull(policy_classes(policy, &n));
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(policy_classes(policy, &n)->name, "default");
	ck_assert_uint_eq(policy_classes(policy, &n)->limit, expected.limit);
	expect_class("default", "web1", NULL, 0);
	ck_assert_uint_eq(decide("web1", NULL, 0, NULL, NULL).assignment.tenant, FLEET_NO_TENANT);
	ck_assert_int_eq(decide("web1", NULL, 0, NULL, NULL).class_by, POLICY_BY_DEFAULT);
	ck_assert(!policy_observe(policy));
	ck_assert_int_eq(policy_capacity(policy)->kind, POLICY_CAPACITY_UNLIMITED);
	ck_assert_uint_eq(policy_capacity_vcpus(policy, 2), FLEET_UNLIMITED);
}

START_TEST(nothing_is_the_built_in_class)
{
	char missing[128];

	load();
	expect_built_in();
	load_text("{}");
	expect_built_in();
	policy = policy_unref(policy);
	snprintf(missing, sizeof(missing), "%s/missing", directory);
	ck_assert_int_eq(policy_load(&policy, missing, &error), 0);
	expect_built_in();
	policy = policy_unref(policy);
	ck_assert_int_eq(policy_parse(&policy, NULL, 0, &error), 0);
	expect_built_in();
}
END_TEST

/* Each key of a class, with a value that is not its default. */
START_TEST(every_key_of_a_class)
{
	const struct service_class *c;

	load_text("{\"classes\": {\"gold\": {\"guaranteed\": 2, \"limit\": 8, \"priority\": 99,\n"
		  "\"burst\": {\"cap_seconds\": 30, \"initial_seconds\": 20, \"resume_seconds\": 10},\n"
		  "\"plugs\": {\"per_minute\": 4, \"burst\": 5}, \"cpu_on\": {\"per_second\": 6, \"burst\": 7},\n"
		  "\"refusal\": \"revoke\", \"retry_seconds\": 8, \"verdicts\": \"ask\", \"on_timeout\": \"allow\",\n"
		  "\"observe\": true, \"bill_paused\": false, \"ask_timeout_ms\": 9, \"job_timeout_seconds\": 10,\n"
		  "\"price\": {\"guaranteed\": \"0.012345\", \"burst\": 1.5}}}}");
	c = policy_class(policy, "gold");
	ck_assert_ptr_nonnull(c);
	ck_assert_uint_eq(c->guaranteed, 2);
	ck_assert_uint_eq(c->limit, 8);
	ck_assert_uint_eq(c->priority, 99);
	ck_assert(c->burst.metered);
	ck_assert_int_eq(c->burst.cap, 30 * (int64_t)NSEC_PER_SEC);
	ck_assert_int_eq(c->burst.initial, 20 * (int64_t)NSEC_PER_SEC);
	ck_assert_int_eq(c->burst.resume, 10 * (int64_t)NSEC_PER_SEC);
	ck_assert_uint_eq(c->plugs.per_minute, 4);
	ck_assert_uint_eq(c->plugs.burst, 5);
	ck_assert_uint_eq(c->cpu_on.per_second, 6);
	ck_assert_uint_eq(c->cpu_on.burst, 7);
	ck_assert_int_eq(c->refusal, CLASS_REVOKE);
	ck_assert_uint_eq(c->retry_interval, 8 * NSEC_PER_SEC);
	ck_assert(c->ask);
	ck_assert(c->timeout_allow);
	ck_assert(c->observe);
	ck_assert(!c->bill_paused);
	ck_assert_uint_eq(c->ask_timeout_ms, 9);
	ck_assert_uint_eq(c->job_timeout, 10 * NSEC_PER_SEC);
	ck_assert(c->price.given);
	ck_assert_uint_eq(c->price.guaranteed, 12345);
	ck_assert_uint_eq(c->price.burst, 1500000);
	ck_assert_ptr_nonnull(policy_class(policy, "default"));
	ck_assert_ptr_null(policy_class(policy, "gol"));
	ck_assert_ptr_null(policy_class(policy, "golden"));
}
END_TEST

START_TEST(what_a_class_leaves_out)
{
	struct service_class expected;
	const struct service_class *c;

	load_text("{\"classes\": {\"a\": {}, \"b\": {\"burst\": {\"cap_seconds\": 30}, \"plugs\": {\"per_minute\": 3},"
		  " \"cpu_on\": {\"per_second\": 2}, \"price\": {}}}}");
	class_default(&expected);
	expected.name = "a";
	c = policy_class(policy, "a");
	ck_assert_str_eq(c->name, "a");
	expected.name = c->name;
	ck_assert_mem_eq(c, &expected, sizeof(expected));
	c = policy_class(policy, "b");
	ck_assert(c->burst.metered);
	ck_assert_int_eq(c->burst.initial, 0);
	ck_assert_int_eq(c->burst.resume, 3 * (int64_t)NSEC_PER_SEC);
	ck_assert_uint_eq(c->plugs.burst, 3);
	ck_assert_uint_eq(c->cpu_on.burst, CPUPOLICY_MAX_VCPUS);
	ck_assert(c->price.given);
	ck_assert_uint_eq(c->price.burst, 0);
}
END_TEST

START_TEST(default_class_may_be_replaced_or_chosen)
{
	load_text("{\"classes\": {\"default\": {\"limit\": 3}, \"bronze\": {}}}");
	ck_assert_uint_eq(decide("x", NULL, 0, NULL, NULL).assignment.class->limit, 3);
	load_text("{\"classes\": {\"bronze\": {}}, \"default_class\": \"bronze\"}");
	expect_class("bronze", "x", NULL, 0);
	ck_assert_ptr_nonnull(policy_class(policy, "default"));
}
END_TEST

START_TEST(tenants_are_numbered_by_name)
{
	const struct fleet_tenant *tenants;
	uint32_t n;

	load_text("{\"tenants\": {\"zeta\": {\"quota\": 8}, \"acme\": {}, \"mid\": {\"quota\": 1}}}");
	tenants = policy_tenants(policy, &n);
	ck_assert_uint_eq(n, 3);
	ck_assert_str_eq(tenants[0].name, "acme");
	ck_assert_uint_eq(tenants[0].quota, FLEET_UNLIMITED);
	ck_assert_uint_eq(tenants[1].quota, 1);
	ck_assert_str_eq(tenants[2].name, "zeta");
	ck_assert_uint_eq(tenants[2].quota, 8);
	ck_assert_uint_eq(policy_tenant(policy, "zeta"), 2);
	ck_assert_uint_eq(policy_tenant(policy, "zet"), FLEET_NO_TENANT);
}
END_TEST

START_TEST(capacity)
{
	static const struct {
		const char *text;
		uint32_t cpus, vcpus;
	} cases[] = {
		{"5", 2, 5},
		{"{}", 2, 2},
		{"{\"cpus\": \"auto\"}", 64, 64},
		{"{\"overcommit\": 2}", 3, 6},
		{"{\"overcommit\": \"2.5\"}", 3, 7},
		{"{\"overcommit\": 0.001}", 3, 1},
		{"{\"overcommit\": 1.999}", 1000, 1999},
		{"{\"cpus\": 10, \"overcommit\": 1.25}", 3, 12},
		{"{\"cpus\": \"auto\"}", 0, 1},
		{"{\"overcommit\": 1000}", UINT32_MAX, FLEET_UNLIMITED - 1},
	};
	char text[128];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "{\"host\": {\"capacity\": %s}}", cases[i].text);
		load_text(text);
		ck_assert_uint_eq(policy_capacity_vcpus(policy, cases[i].cpus), cases[i].vcpus);
	}
	load_text("{\"host\": {\"observe\": true}}");
	ck_assert(policy_observe(policy));
}
END_TEST

START_TEST(first_rule_that_matches_wins)
{
	struct policy_decision d;

	load_text("{\"classes\": {\"a\": {}, \"b\": {}, \"c\": {}, \"d\": {}},\n"
		  "\"rules\": [{\"match\": {\"name\": \"web-*\", \"uid\": 1000}, \"class\": \"a\"},\n"
		  "            {\"match\": {\"name\": \"web-[0-9]\"}, \"class\": \"b\"},\n"
		  "            {\"match\": {\"uuid\": \"6BA7B810-9DAD-11D1-80B4-00C04FD430C8\"}, \"class\": \"c\"},\n"
		  "            {\"match\": {\"uid\": 7}, \"class\": \"d\"}]}");
	expect_class("a", "web-1", NULL, 1000);
	expect_class("b", "web-1", NULL, 1001);
	expect_class("default", "web-10", NULL, 1001);
	expect_class("default", "xweb-1", NULL, 1000);
	expect_class("b", "web-1", UUID, 7);
	expect_class("c", "db", UUID, 7);
	expect_class("d", "db", NULL, 7);
	d = decide("db", NULL, 7, NULL, NULL);
	ck_assert_int_eq(d.class_by, POLICY_BY_RULE);
	ck_assert_uint_eq(d.class_rule, 4);
	/* without anything to match: everything */
	load_text("{\"classes\": {\"a\": {}}, \"rules\": [{\"class\": \"a\"}]}");
	expect_class("a", "x", NULL, 0);
}
END_TEST

START_TEST(rules_give_tenants_and_match_them)
{
	struct policy_decision d;

	load_text("{\"classes\": {\"gold\": {}, \"iron\": {}}, \"tenants\": {\"acme\": {}, \"beta\": {}},\n"
		  "\"rules\": [{\"match\": {\"tenant\": \"acme\"}, \"class\": \"gold\"},\n"
		  "            {\"match\": {\"name\": \"acme-*\"}, \"tenant\": \"acme\"},\n"
		  "            {\"match\": {\"name\": \"*-beta\"}, \"tenant\": \"beta\", \"class\": \"iron\"}]}");
	d = decide("acme-1", NULL, 0, NULL, NULL);
	ck_assert_uint_eq(d.assignment.tenant, policy_tenant(policy, "acme"));
	ck_assert_int_eq(d.tenant_by, POLICY_BY_RULE);
	ck_assert_uint_eq(d.tenant_rule, 2);
	ck_assert_str_eq(d.assignment.class->name, "gold");
	ck_assert_uint_eq(d.class_rule, 1);
	/* the first to give a tenant, and of it the first to give a class */
	d = decide("acme-beta", NULL, 0, NULL, NULL);
	ck_assert_uint_eq(d.assignment.tenant, policy_tenant(policy, "acme"));
	ck_assert_str_eq(d.assignment.class->name, "gold");
	d = decide("x-beta", NULL, 0, NULL, NULL);
	ck_assert_uint_eq(d.assignment.tenant, policy_tenant(policy, "beta"));
	ck_assert_str_eq(d.assignment.class->name, "iron");
	/* an assigned tenant is matched like one that a rule gave */
	d = decide("other", NULL, 0, NULL, "acme");
	ck_assert_int_eq(d.tenant_by, POLICY_BY_ASSIGNMENT);
	ck_assert_str_eq(d.assignment.class->name, "gold");
}
END_TEST

START_TEST(assignment_goes_before_rules)
{
	struct policy_decision d;

	load_text("{\"classes\": {\"a\": {}, \"b\": {}}, \"tenants\": {\"t\": {}, \"u\": {}},"
		  " \"rules\": [{\"class\": \"a\", \"tenant\": \"t\"}]}");
	d = decide("x", NULL, 0, "b", "u");
	ck_assert_str_eq(d.assignment.class->name, "b");
	ck_assert_int_eq(d.class_by, POLICY_BY_ASSIGNMENT);
	ck_assert_uint_eq(d.assignment.tenant, policy_tenant(policy, "u"));
	ck_assert(!d.class_unknown);
	/* one that went with a reload is said, and counts for nothing */
	d = decide("x", NULL, 0, "gone", "gone");
	ck_assert_str_eq(d.assignment.class->name, "a");
	ck_assert_int_eq(d.class_by, POLICY_BY_RULE);
	ck_assert_uint_eq(d.assignment.tenant, policy_tenant(policy, "t"));
	ck_assert(d.class_unknown);
	ck_assert(d.tenant_unknown);
}
END_TEST

START_TEST(announcement_goes_between_them)
{
	struct policy_subject subject = {.name = "x", .announced_class = "b", .announced_tenant = "u"};
	struct policy_decision d;

	load_text("{\"classes\": {\"a\": {}, \"b\": {}, \"c\": {}}, \"tenants\": {\"t\": {}, \"u\": {}, \"v\": {}},"
		  " \"rules\": [{\"match\": {\"tenant\": \"u\"}, \"class\": \"c\"}, {\"class\": \"a\", \"tenant\": "
		  "\"t\"}]}");
	policy_assign(policy, &subject, &d);
	ck_assert_str_eq(d.assignment.class->name, "b");
	ck_assert_int_eq(d.class_by, POLICY_BY_ANNOUNCEMENT);
	ck_assert_int_eq(d.tenant_by, POLICY_BY_ANNOUNCEMENT);
	ck_assert_uint_eq(d.assignment.tenant, policy_tenant(policy, "u"));
	ck_assert(!d.announced_class_unknown && !d.announced_tenant_unknown);
	/* an announced tenant is matched like one that a rule gave */
	subject.announced_class = NULL;
	policy_assign(policy, &subject, &d);
	ck_assert_str_eq(d.assignment.class->name, "c");
	ck_assert_int_eq(d.class_by, POLICY_BY_RULE);
	subject.class = "a";
	subject.tenant = "v";
	policy_assign(policy, &subject, &d);
	ck_assert_int_eq(d.class_by, POLICY_BY_ASSIGNMENT);
	ck_assert_uint_eq(d.assignment.tenant, policy_tenant(policy, "v"));
	/* one that is gone lets the next decide, and each is said */
	subject = (struct policy_subject){
		.name = "x", .class = "gone", .announced_class = "b", .announced_tenant = "gone"};
	policy_assign(policy, &subject, &d);
	ck_assert_str_eq(d.assignment.class->name, "b");
	ck_assert_int_eq(d.class_by, POLICY_BY_ANNOUNCEMENT);
	ck_assert_uint_eq(d.assignment.tenant, policy_tenant(policy, "t"));
	ck_assert(d.class_unknown && !d.announced_class_unknown && d.announced_tenant_unknown);
}
END_TEST

/* ---- files ---- */

START_TEST(files_in_order_of_their_names)
{
	put("20-b.json", "{\"classes\": {\"b\": {}}, \"rules\": [{\"class\": \"b\"}]}");
	/* refers to what comes later */
	put("10-a.json", "{\"rules\": [{\"match\": {\"uid\": 1}, \"class\": \"b\"}], \"default_class\": \"c\"}");
	put("B.json", "{\"classes\": {\"c\": {}}}");
	put(".hidden.json", "not JSON");
	put("notes.txt", "not JSON");
	put("old.json~", "not JSON");
	put(".json", "not JSON");
	load();
	ck_assert_uint_eq(decide("x", NULL, 1, NULL, NULL).class_rule, 1);
	ck_assert_uint_eq(decide("x", NULL, 2, NULL, NULL).class_rule, 2);
}
END_TEST

START_TEST(sources_make_the_same_policy_again)
{
	const struct policy_source *sources;
	struct policy *again;
	size_t n;

	put("1.json", "{\"classes\": {\"b\": {\"limit\": 7}}}");
	put("2.json", "{\"default_class\": \"b\"}");
	load();
	sources = policy_sources(policy, &n);
	ck_assert_uint_eq(n, 2);
	ck_assert_str_eq(sources[1].text, "{\"default_class\": \"b\"}");
	ck_assert_int_eq(policy_parse(&again, sources, n, &error), 0);
	policy_unref(policy);
	policy = policy_ref(again);
	policy_unref(again);
	ck_assert_uint_eq(decide("x", NULL, 1, NULL, NULL).assignment.class->limit, 7);
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/a.json", directory);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(try_load(), -EISDIR);
	ck_assert_ptr_nonnull(strstr(error, path));
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_eq(symlink("/nonexistent", path), 0);
	ck_assert_int_eq(try_load(), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, path));
	ck_assert_int_eq(unlink(path), 0);
	put("a.json", "{}");
	free(error);
	error = NULL;
	ck_assert_int_eq(policy_load(&policy, path, &error), -ENOTDIR);
	ck_assert_ptr_nonnull(strstr(error, path));
}
END_TEST

/* ---- what is wrong: the whole of each message ---- */

#define GOLD "{\"classes\": {\"gold\": "

static const struct {
	const char *a, *b;
	const char *error;
} wrong[] = {
	{"{", NULL, "a:1:1: string or '}' expected near end of file"},
	{"{}", "[]", "b:1:1: expected an object, not an array"},
	{"{\"class\": {}}", NULL,
	 "a:1:2: class: unknown key; expected one of classes, tenants, rules, default_class, host, registration"},
	{"{\"classes\": []}", NULL, "a:1:13: classes: expected an object, not an array"},
	{"{\"tenants\": 1}", NULL, "a:1:13: tenants: expected an object, not 1"},
	{"{\"rules\": {}}", NULL, "a:1:11: rules: expected an array, not an object"},
	/* names */
	{"{\"classes\": {\"g ld\": {}}}", NULL,
	 "a:1:14: classes.g ld: expected a name of up to 63 letters, digits, '.', '_' and '-'"},
	{"{\"tenants\": {\"\": {}}}", NULL,
	 "a:1:14: tenants.: expected a name of up to 63 letters, digits, '.', '_' and '-'"},
	{GOLD "{}}}", "{\n\"classes\": {\"iron\": {},\n  \"gold\": {}}}", "b:3:3: classes.gold: already defined in a"},
	{"{\"tenants\": {\"t\": {}}}", "{\"tenants\": {\"t\": {}}}", "b:1:14: tenants.t: already defined in a"},
	{"{\"host\": {}}", "{\"host\": {}}", "b:1:2: host: already defined in a"},
	{"{\"default_class\": \"default\"}", "{\"default_class\": \"default\"}",
	 "b:1:2: default_class: already defined in a"},
	/* classes */
	{GOLD "3}}", NULL, "a:1:22: classes.gold: expected an object, not 3"},
	{GOLD "{\"minimum\": 3}}}", NULL,
	 "a:1:23: classes.gold.minimum: unknown key; expected one of guaranteed, limit, priority, burst, plugs, "
	 "cpu_on, "
	 "refusal, quota, retry_seconds, verdicts, on_timeout, observe, bill_paused, ask_timeout_ms, "
	 "job_timeout_seconds, "
	 "price"},
	{GOLD "{\"limit\": 513}}}", NULL, "a:1:32: classes.gold.limit: expected an integer from 1 to 512, not 513"},
	{GOLD "{\"guaranteed\": 0}}}", NULL,
	 "a:1:37: classes.gold.guaranteed: expected an integer from 1 to 512, not 0"},
	{GOLD "{\"priority\": 100}}}", NULL,
	 "a:1:35: classes.gold.priority: expected an integer from 0 to 99, not 100"},
	{GOLD "{\"limit\": 2, \"guaranteed\": 3}}}", NULL, "a:1:49: classes.gold.guaranteed: expected 1 to the limit"},
	{GOLD "{\"burst\": true}}}", NULL, "a:1:32: classes.gold.burst: expected an object, not true"},
	{GOLD "{\"burst\": {}}}}", NULL, "a:1:32: classes.gold.burst: expected cap_seconds in it"},
	{GOLD "{\"burst\": {\"cap_seconds\": 1152921505}}}}", NULL,
	 "a:1:48: classes.gold.burst.cap_seconds: expected an integer from 0 to 1152921504, not 1152921505"},
	{GOLD "{\"burst\": {\"initial_seconds\": 9, \"cap_seconds\": 8}}}}", NULL,
	 "a:1:52: classes.gold.burst.initial_seconds: expected 0 to the cap"},
	{GOLD "{\"burst\": {\"cap_seconds\": 8,\n\"resume_seconds\": 9}}}}", NULL,
	 "a:2:19: classes.gold.burst.resume_seconds: expected 0 to the cap"},
	{GOLD "{\"plugs\": {\"per_minute\": 1000001}}}}", NULL,
	 "a:1:47: classes.gold.plugs.per_minute: expected an integer from 0 to 1000000, not 1000001"},
	{GOLD "{\"cpu_on\": {\"burst\": 0}}}}", NULL,
	 "a:1:43: classes.gold.cpu_on.burst: expected an integer from 1 to 1000000, not 0"},
	{GOLD "{\"refusal\": \"kill\"}}}", NULL,
	 "a:1:34: classes.gold.refusal: expected \"retry\", \"revoke\" or \"quota\", not \"kill\""},
	{GOLD "{\"retry_seconds\": 0}}}", NULL,
	 "a:1:40: classes.gold.retry_seconds: expected an integer from 1 to 86400, not 0"},
	{GOLD "{\"price\": {\"burst\": \"0.0000001\"}}}}", NULL,
	 "a:1:42: classes.gold.price.burst: expected a number from 0 to 1e+06 with at most 6 decimals, not "
	 "\"0.0000001\""},
	{GOLD "{\"price\": {\"burst\": -1}}}}", NULL,
	 "a:1:42: classes.gold.price.burst: expected a number from 0 to 1e+06 with at most 6 decimals, not -1"},
	{GOLD "{\"price\": {\"burst\": 1e3}}}}", NULL,
	 "a:1:42: classes.gold.price.burst: expected a number from 0 to 1e+06 with at most 6 decimals, not 1e3"},
	{GOLD "{\"price\": {\"burst\": \"1 \"}}}}", NULL,
	 "a:1:42: classes.gold.price.burst: expected a number from 0 to 1e+06 with at most 6 decimals, not \"1 \""},
	/* tenants, host */
	{"{\"tenants\": {\"t\": {\"quota\": 0}}}", NULL,
	 "a:1:29: tenants.t.quota: expected an integer from 1 to 1000000000, not 0"},
	{"{\"host\": {\"capacity\": 0}}", NULL,
	 "a:1:23: host.capacity: expected an integer from 1 to 1000000000, or an object, not 0"},
	{"{\"host\": {\"capacity\": {\"cpus\": \"all\"}}}", NULL,
	 "a:1:32: host.capacity.cpus: expected \"auto\" or an integer from 1 to 65536, not \"all\""},
	{"{\"host\": {\"capacity\": {\"overcommit\": 1.2345}}}", NULL,
	 "a:1:38: host.capacity.overcommit: expected a number from 0.001 to 1000 with at most 3 decimals, not 1.2345"},
	{"{\"host\": {\"capacity\": {\"overcommit\": 0}}}", NULL,
	 "a:1:38: host.capacity.overcommit: expected a number from 0.001 to 1000 with at most 3 decimals, not 0"},
	/* references */
	{"{\"default_class\": \"gold\"}", NULL,
	 "a:1:19: default_class: expected the name of a class that is defined, not \"gold\""},
	{GOLD "{}}}", "{\"rules\": [{\"class\": \"gold\"},\n {\"match\": {}, \"class\": \"golden\"}]}",
	 "b:2:25: rules[1].class: expected the name of a class that is defined, not \"golden\""},
	{"{\"rules\": [{\"tenant\": \"t\"}]}", NULL,
	 "a:1:23: rules[0].tenant: expected the name of a tenant that is defined, not \"t\""},
	{"{\"rules\": [{\"class\": \"default\", \"match\": {\"tenant\": 7}}]}", NULL,
	 "a:1:53: rules[0].match.tenant: expected the name of a tenant that is defined, not 7"},
	/* rules */
	{"{\"rules\": [1]}", NULL, "a:1:12: rules[0]: expected an object, not 1"},
	{"{\"rules\": [ {\"match\": {}} ]}", NULL, "a:1:13: rules[0]: expected a class or a tenant in it"},
	{"{\"tenants\": {\"t\": {}}, \"rules\": [{\"match\": {\"tenant\": \"t\"}, \"tenant\": \"t\"}]}", NULL,
	 "a:1:34: rules[0]: expected not both a tenant to match and one to give"},
	{"{\"rules\": [{\"class\": \"default\", \"match\": {\"name\": \"\"}}]}", NULL,
	 "a:1:51: rules[0].match.name: expected a pattern of 1 to 255 bytes, not \"\""},
	{"{\"rules\": [{\"class\": \"default\", \"match\": {\"uid\": 4294967295}}]}", NULL,
	 "a:1:50: rules[0].match.uid: expected an integer from 0 to 4294967294, not 4294967295"},
	{"{\"rules\": [{\"class\": \"default\", \"match\": {\"uuid\": \"web1\"}}]}", NULL,
	 "a:1:51: rules[0].match.uuid: expected a UUID, not \"web1\""},
	{"{\"rules\": [{\"class\": \"default\"},\n[[\"}]\", {}], 1],\n {\"class\": \"default\", \"uid\": 1}]}", NULL,
	 "a:2:1: rules[1]: expected an object, not an array"},
	{"{\"rules\": [{\"class\": \"default\", \"match\": {\"name\": \"]},[\"}},\n {\"class\": \"default\", \"uid\": "
	 "1}]}",
	 NULL, "a:2:23: rules[1].uid: unknown key; expected one of match, class, tenant"},
};

START_TEST(errors_say_where_and_what)
{
	ck_assert_int_eq(parse(wrong[_i].a, wrong[_i].b), -EINVAL);
	ck_assert_ptr_null(policy);
	ck_assert_ptr_nonnull(error);
	ck_assert_str_eq(error, wrong[_i].error);
}
END_TEST

START_TEST(bytes_that_are_no_text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/a.json", directory);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite("{}\0{}", 1, 5, f), 5);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(try_load(), -EILSEQ);
	ck_assert_ptr_nonnull(strstr(error, path));
}
END_TEST

/* Every prefix and every text with one byte changed is read or refused, never worse: run with sanitizers. */
START_TEST(damaged_texts_are_survived)
{
	static const char text[] =
		"{\"classes\": {\"a\": {\"limit\": 3, \"burst\": {\"cap_seconds\": 1}, \"price\": {\"burst\": 0.5}}},"
		" \"tenants\": {\"t\": {\"quota\": 3}}, \"host\": {\"capacity\": {\"overcommit\": 1.5}},"
		" \"rules\": [{\"match\": {\"uid\": 1}, \"class\": \"a\"}, {\"tenant\": \"t\"}], \"default_class\": "
		"\"a\"}";
	static const char replacements[] = "{}[]\",:\\ x\n1.-";
	char changed[sizeof(text)];

	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		strcpy(changed, text);
		changed[i] = '\0';
		ck_assert_int_eq(parse(changed, NULL), -EINVAL);
		for (size_t j = 0; j < sizeof(replacements) - 1; j++) {
			int r;

			strcpy(changed, text);
			changed[i] = replacements[j];
			r = parse(changed, NULL);
			ck_assert(r == 0 || r == -EINVAL);
			ck_assert((r == 0) == (policy != NULL));
			ck_assert((r == 0) == (error == NULL));
		}
	}
}
END_TEST

START_TEST(examples_are_correct)
{
	const char *srcdir = getenv("srcdir");
	char path[4096];
	size_t n;

	snprintf(path, sizeof(path), "%s/docs/policy.d.example", srcdir ? srcdir : ".");
	ck_assert_int_eq(access(path, R_OK), 0);
	ck_assert_msg(policy_load(&policy, path, &error) == 0, "%s", error ? error : "");
	policy_sources(policy, &n);
	ck_assert_uint_ge(n, 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("policy");
	TCase *tc = tcase_create("policy");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, nothing_is_the_built_in_class);
	tcase_add_test(tc, every_key_of_a_class);
	tcase_add_test(tc, what_a_class_leaves_out);
	tcase_add_test(tc, default_class_may_be_replaced_or_chosen);
	tcase_add_test(tc, tenants_are_numbered_by_name);
	tcase_add_test(tc, capacity);
	tcase_add_test(tc, first_rule_that_matches_wins);
	tcase_add_test(tc, rules_give_tenants_and_match_them);
	tcase_add_test(tc, assignment_goes_before_rules);
	tcase_add_test(tc, announcement_goes_between_them);
	tcase_add_test(tc, files_in_order_of_their_names);
	tcase_add_test(tc, sources_make_the_same_policy_again);
	tcase_add_test(tc, files_that_cannot_be_read);
	tcase_add_loop_test(tc, errors_say_where_and_what, 0, (int)ARRAY_SIZE(wrong));
	tcase_add_test(tc, bytes_that_are_no_text);
	tcase_add_test(tc, damaged_texts_are_survived);
	tcase_add_test(tc, examples_are_correct);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
