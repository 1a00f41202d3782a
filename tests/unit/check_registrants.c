/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/uuid.h"
#include "daemon/settings/policy.h"

#define UUID "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

static struct policy *policy;
static char *error;

static void set_up(void)
{
	policy = NULL;
	error = NULL;
}

static void tear_down(void)
{
	policy_unref(policy);
	free(error);
}

static int parse(const char *registration)
{
	char text[2048];
	struct policy_source source = {.file = (char *)"p", .text = text};

	snprintf(text, sizeof(text), "{\"tenants\": {\"acme\": {}}, \"registration\": [%s]}", registration);
	policy = policy_unref(policy);
	free(error);
	error = NULL;
	return policy_parse(&policy, &source, 1, &error);
}

static void load(const char *registration)
{
	int r = parse(registration);

	ck_assert_msg(r == 0, "%s", error);
}

static gid_t more_groups[] = {107, 108};
static const struct peer qemu = {
	.uid = 64055,
	.gid = 64055,
	.pid = 17,
	.label = (char *)"libvirt-" UUID " (enforce)",
	.machine = (char *)"qemu-1-web",
	.unit = (char *)"machine-qemu\\x2d1\\x2dweb.scope",
	.slice = (char *)"machine.slice",
	.groups = more_groups,
	.n_groups = 2,
};
static const struct peer stranger = {.uid = 1000, .gid = 1000, .pid = 18};

/* The number of the rule that decided, negative if it refuses; 0: none did. */
static int decided(const struct peer *peer, const char *name, uint32_t tenant, bool announced)
{
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	struct registrants_subject subject = {
		.name = name,
		.uuid = uuid,
		.tenant = tenant,
		.peer = peer,
		.announced = announced,
	};
	uint32_t rule = 99;
	bool allowed;

	ck_assert_int_eq(uuid_parse(uuid, UUID), 0);
	allowed = registrants_allow(policy_registrants(policy), &subject, &rule);
	ck_assert(rule != 0 || allowed);
	return allowed ? (int)rule : -(int)rule;
}

START_TEST(without_rules_everybody_may)
{
	load("");
	ck_assert_int_eq(decided(&qemu, "web", FLEET_NO_TENANT, false), 0);
	ck_assert_int_eq(decided(&stranger, "web", FLEET_NO_TENANT, false), 0);
}
END_TEST

START_TEST(each_condition)
{
	static const struct {
		const char *rule;
		bool qemu, stranger;
	} cases[] = {
		{"{\"verdict\": \"deny\"}", true, true},
		{"{\"match\": {}, \"peer\": {}, \"verdict\": \"deny\"}", true, true},
		{"{\"match\": {\"name\": \"w*\"}, \"verdict\": \"deny\"}", true, true},
		{"{\"match\": {\"name\": \"x*\"}, \"verdict\": \"deny\"}", false, false},
		{"{\"match\": {\"uuid\": \"" UUID "\"}, \"verdict\": \"deny\"}", true, true},
		{"{\"match\": {\"uuid\": \"7ba7b810-9dad-11d1-80b4-00c04fd430c8\"}, \"verdict\": \"deny\"}", false,
		 false},
		{"{\"match\": {\"tenant\": \"acme\"}, \"verdict\": \"deny\"}", false, false},
		{"{\"peer\": {\"uid\": 64055}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"uid\": 1000}, \"verdict\": \"deny\"}", false, true},
		{"{\"peer\": {\"gid\": 64055}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"gid\": 108}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"gid\": 109}, \"verdict\": \"deny\"}", false, false},
		{"{\"peer\": {\"label\": \"libvirt-*\"}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"label\": \"libvirt-" UUID "\"}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"label\": \"libvirt-" UUID " (enforce)\"}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"label\": \"libvirt\"}, \"verdict\": \"deny\"}", false, false},
		{"{\"peer\": {\"label\": \"*\"}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"unit\": \"machine-*.scope\"}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"slice\": \"machine.slice\"}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"machine\": \"qemu-*\"}, \"verdict\": \"deny\"}", true, false},
		{"{\"peer\": {\"announced\": false}, \"verdict\": \"deny\"}", true, true},
		{"{\"peer\": {\"announced\": true}, \"verdict\": \"deny\"}", false, false},
		{"{\"peer\": {\"uid\": 64055, \"slice\": \"user.slice\"}, \"verdict\": \"deny\"}", false, false},
		/* a name that nobody has looked up is nobody's */
		{"{\"peer\": {\"user\": \"root\"}, \"verdict\": \"deny\"}", false, false},
		{"{\"peer\": {\"group\": \"root\"}, \"verdict\": \"deny\"}", false, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		load(cases[i].rule);
		ck_assert_msg(decided(&qemu, "web", FLEET_NO_TENANT, false) == (cases[i].qemu ? -1 : 0), "%s",
			      cases[i].rule);
		ck_assert_msg(decided(&stranger, "web", FLEET_NO_TENANT, false) == (cases[i].stranger ? -1 : 0), "%s",
			      cases[i].rule);
	}
	load("{\"match\": {\"tenant\": \"acme\"}, \"verdict\": \"deny\"}");
	ck_assert_int_eq(decided(&qemu, "web", 0, false), -1);
	load("{\"peer\": {\"announced\": true}, \"verdict\": \"deny\"}");
	ck_assert_int_eq(decided(&qemu, "web", FLEET_NO_TENANT, true), -1);
}
END_TEST

START_TEST(first_match_decides)
{
	load("{\"match\": {\"name\": \"prod-*\"}, \"peer\": {\"slice\": \"machine.slice\"}, \"verdict\": \"allow\"},"
	     "{\"match\": {\"name\": \"prod-*\"}, \"verdict\": \"deny\"},"
	     "{\"peer\": {\"uid\": 1000}, \"verdict\": \"allow\"}");
	ck_assert_int_eq(decided(&qemu, "prod-1", FLEET_NO_TENANT, false), 1);
	ck_assert_int_eq(decided(&stranger, "prod-1", FLEET_NO_TENANT, false), -2);
	ck_assert_int_eq(decided(&stranger, "test-1", FLEET_NO_TENANT, false), 3);
	ck_assert_int_eq(decided(&qemu, "test-1", FLEET_NO_TENANT, false), 0);
}
END_TEST

START_TEST(what_is_wrong)
{
	static const struct {
		const char *rule, *error;
	} cases[] = {
		{"{}", "verdict"},
		{"{\"verdict\": \"maybe\"}", "deny"},
		{"{\"verdict\": \"deny\", \"who\": {}}", "who"},
		{"{\"verdict\": \"deny\", \"peer\": {\"pid\": 1}}", "pid"},
		{"{\"verdict\": \"deny\", \"peer\": {\"uid\": -1}}", "uid"},
		{"{\"verdict\": \"deny\", \"peer\": {\"uid\": 4294967295}}", "uid"},
		{"{\"verdict\": \"deny\", \"peer\": {\"uid\": \"root\"}}", "uid"},
		{"{\"verdict\": \"deny\", \"peer\": {\"label\": \"\"}}", "label"},
		{"{\"verdict\": \"deny\", \"peer\": {\"uid\": 1, \"user\": \"root\"}}", "not both"},
		{"{\"verdict\": \"deny\", \"match\": {\"tenant\": \"nobody\"}}", "tenant"},
		{"{\"verdict\": \"deny\", \"match\": {\"uuid\": \"00000000-0000-0000-0000-000000000000\"}}", "UUID"},
		{"{\"verdict\": \"deny\", \"match\": {\"uid\": 1}}", "uid"},
		{"7", "object"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ck_assert_msg(parse(cases[i].rule) == -EINVAL, "%s", cases[i].rule);
		ck_assert_ptr_nonnull(error);
		ck_assert_msg(strstr(error, cases[i].error) && strstr(error, "registration[0]"), "%s: %s",
			      cases[i].rule, error);
	}
}
END_TEST

static struct registrants *registrants(void)
{
	return (struct registrants *)(uintptr_t)policy_registrants(policy);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

START_TEST(names_of_users_and_groups)
{
	char passwd[] = "/tmp/cpupolicy-passwd-XXXXXX", group[] = "/tmp/cpupolicy-group-XXXXXX";

	close(mkstemp(passwd));
	close(mkstemp(group));
	write_file(passwd, "root:x:0:0::/:/bin/sh\nlibvirt-qemu:x:64055:107::/:/bin/false\n");
	write_file(group, "root:x:0:\nkvm:x:108:\n");
	load("{\"peer\": {\"user\": \"libvirt-qemu\", \"group\": \"kvm\"}, \"verdict\": \"deny\"}");
	ck_assert_int_eq(registrants_resolve(registrants(), passwd, group, &error), 0);
	ck_assert_int_eq(decided(&qemu, "web", FLEET_NO_TENANT, false), -1);
	ck_assert_int_eq(decided(&stranger, "web", FLEET_NO_TENANT, false), 0);

	load("{\"verdict\": \"allow\"}, {\"peer\": {\"user\": \"ghost\"}, \"verdict\": \"deny\"}");
	ck_assert_int_eq(registrants_resolve(registrants(), passwd, group, &error), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, "rule 2"));
	ck_assert_ptr_nonnull(strstr(error, "\"ghost\""));
	load("{\"peer\": {\"group\": \"ghosts\"}, \"verdict\": \"deny\"}");
	ck_assert_int_eq(registrants_resolve(registrants(), passwd, group, &error), -ENOENT);
	unlink(passwd);
	unlink(group);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("registrants");
	TCase *t = tcase_create("registrants");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, without_rules_everybody_may);
	tcase_add_test(t, each_condition);
	tcase_add_test(t, first_match_decides);
	tcase_add_test(t, what_is_wrong);
	tcase_add_test(t, names_of_users_and_groups);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
