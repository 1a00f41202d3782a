/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/util.h"
#include "proto/cpupolicy-proto.h"

#define UUID "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

static char path[] = "/tmp/check-config-XXXXXX";
static struct config *config;
static char *error;

static void setup(void)
{
	int fd;

	strcpy(path + strlen(path) - 6, "XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	config = NULL;
	error = NULL;
}

static void teardown(void)
{
	unlink(path);
	config = config_free(config);
	free(error);
}

static int load_bytes(const void *bytes, size_t size)
{
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
	ck_assert_int_eq(fclose(f), 0);
	config = config_free(config);
	free(error);
	error = NULL;
	return config_load(&config, path, false, &error);
}

static void load(const char *text)
{
	int r = load_bytes(text, strlen(text));

	ck_assert_msg(r == 0, "%s", error ? error : "no error text");
	ck_assert_ptr_nonnull(config);
	ck_assert_ptr_null(error);
}

/* ---- what is right ---- */

START_TEST(defaults)
{
	load("{}");
	ck_assert_str_eq(config->socket, "/run/cpupolicy/vmm.sock");
	ck_assert_uint_eq(config->socket_mode, 0660);
	ck_assert_ptr_null(config->socket_group);
	ck_assert_str_eq(config->state_directory, "/var/lib/cpupolicy");
	ck_assert_str_eq(config->bus, "system");
	ck_assert_uint_eq(config->max_vms, 4096);
	ck_assert_uint_eq(config->max_connections, 2048);
	ck_assert_uint_eq(config->max_connections_per_uid, 1024);
	ck_assert_uint_eq(config->handshake_timeout, 10 * NSEC_PER_SEC);
	ck_assert_uint_eq(config->messages.per_second, 20000);
	ck_assert_uint_eq(config->messages.burst, 40000);
	ck_assert_uint_eq(config->level.minimum, 1);
	ck_assert_uint_eq(config->level.maximum, CPUPOLICY_MAX_VCPUS);
	ck_assert_uint_eq(config->level.cpu_on.per_second, 0);
	ck_assert_uint_eq(config->level.cpu_on.burst, CPUPOLICY_MAX_VCPUS);
	ck_assert(!config->level.ask);
	ck_assert(!config->level.timeout_allow);
	ck_assert(!config->level.observe);
	ck_assert_uint_eq(config->level.ask_timeout_ms, 1000);
	ck_assert_uint_eq(config->level.job_timeout, 60 * NSEC_PER_SEC);
	ck_assert_uint_eq(config->n_vms, 0);
	ck_assert_ptr_eq(config_level(config, UUID, "web1"), &config->level);
}
END_TEST

/* Each key, with a value that is not its default. */
START_TEST(every_key)
{
	const struct service_level *level;

	load("{\n"
	     "\"socket\": \"/tmp/s\", \"socket_mode\": \"0606\", \"socket_group\": \"kvm\",\n"
	     "\"state_directory\": \"/tmp/d\", \"bus\": \"unix:path=/tmp/bus\",\n"
	     "\"limits\": {\"vms\": 1, \"connections\": 2, \"connections_per_uid\": 3, \"handshake_seconds\": 4,\n"
	     "            \"messages_per_second\": 5, \"messages_burst\": 6},\n"
	     "\"default\": {\"minimum\": 7, \"maximum\": 8, \"cpu_on\": {\"per_second\": 9, \"burst\": 10},\n"
	     "             \"verdicts\": \"ask\", \"on_timeout\": \"allow\", \"observe\": true,\n"
	     "             \"ask_timeout_ms\": 11, \"job_timeout_seconds\": 12},\n"
	     "\"vms\": {\"web1\": {\"minimum\": 1, \"maximum\": 1, \"cpu_on\": {\"per_second\": 0, \"burst\": 1},\n"
	     "                  \"verdicts\": \"page\", \"on_timeout\": \"deny\", \"observe\": false,\n"
	     "                  \"ask_timeout_ms\": 13, \"job_timeout_seconds\": 14}}\n"
	     "}\n");
	ck_assert_str_eq(config->socket, "/tmp/s");
	ck_assert_uint_eq(config->socket_mode, 0606);
	ck_assert_str_eq(config->socket_group, "kvm");
	ck_assert_str_eq(config->state_directory, "/tmp/d");
	ck_assert_str_eq(config->bus, "unix:path=/tmp/bus");
	ck_assert_uint_eq(config->max_vms, 1);
	ck_assert_uint_eq(config->max_connections, 2);
	ck_assert_uint_eq(config->max_connections_per_uid, 3);
	ck_assert_uint_eq(config->handshake_timeout, 4 * NSEC_PER_SEC);
	ck_assert_uint_eq(config->messages.per_second, 5);
	ck_assert_uint_eq(config->messages.burst, 6);
	ck_assert_uint_eq(config->level.minimum, 7);
	ck_assert_uint_eq(config->level.maximum, 8);
	ck_assert_uint_eq(config->level.cpu_on.per_second, 9);
	ck_assert_uint_eq(config->level.cpu_on.burst, 10);
	ck_assert(config->level.ask);
	ck_assert(config->level.timeout_allow);
	ck_assert(config->level.observe);
	ck_assert_uint_eq(config->level.ask_timeout_ms, 11);
	ck_assert_uint_eq(config->level.job_timeout, 12 * NSEC_PER_SEC);
	level = config_level(config, UUID, "web1");
	ck_assert_uint_eq(level->minimum, 1);
	ck_assert_uint_eq(level->maximum, 1);
	ck_assert_uint_eq(level->cpu_on.per_second, 0);
	ck_assert_uint_eq(level->cpu_on.burst, 1);
	ck_assert(!level->ask);
	ck_assert(!level->timeout_allow);
	ck_assert(!level->observe);
	ck_assert_uint_eq(level->ask_timeout_ms, 13);
	ck_assert_uint_eq(level->job_timeout, 14 * NSEC_PER_SEC);
}
END_TEST

/* Also when the default comes later in the file. */
START_TEST(vms_inherit)
{
	load("{\"vms\": {\"z\": {}, \"a\": {\"maximum\": 6, \"cpu_on\": {\"per_second\": 2}}},"
	     " \"default\": {\"minimum\": 5, \"maximum\": 9, \"observe\": true, \"cpu_on\": {\"burst\": 3}}}");
	ck_assert_uint_eq(config->n_vms, 2);
	ck_assert_uint_eq(config_level(config, UUID, "z")->minimum, 5);
	ck_assert_uint_eq(config_level(config, UUID, "z")->maximum, 9);
	ck_assert_uint_eq(config_level(config, UUID, "a")->minimum, 5);
	ck_assert_uint_eq(config_level(config, UUID, "a")->maximum, 6);
	ck_assert_uint_eq(config_level(config, UUID, "a")->cpu_on.per_second, 2);
	ck_assert_uint_eq(config_level(config, UUID, "a")->cpu_on.burst, 3);
	ck_assert(config_level(config, UUID, "a")->observe);
}
END_TEST

START_TEST(rule_for_uuid_is_nearer_than_rule_for_name)
{
	static const char other[] = "00000000-0000-0000-0000-000000000001";

	load("{\"vms\": {\"web1\": {\"maximum\": 2}, \"6BA7B810-9DAD-11D1-80B4-00C04FD430C8\": {\"maximum\": 3}}}");
	ck_assert_uint_eq(config_level(config, UUID, "web1")->maximum, 3);
	ck_assert_uint_eq(config_level(config, UUID, "db")->maximum, 3);
	ck_assert_uint_eq(config_level(config, other, "web1")->maximum, 2);
	ck_assert_uint_eq(config_level(config, other, "db")->maximum, CPUPOLICY_MAX_VCPUS);
	ck_assert_uint_eq(config_level(config, other, "web10")->maximum, CPUPOLICY_MAX_VCPUS);
	ck_assert_uint_eq(config_level(config, other, "WEB1")->maximum, CPUPOLICY_MAX_VCPUS);
}
END_TEST

START_TEST(bounds_are_inclusive)
{
	load("{\"default\": {\"minimum\": 512, \"maximum\": 512, \"ask_timeout_ms\": 60000,"
	     " \"job_timeout_seconds\": 86400, \"cpu_on\": {\"per_second\": 1000000, \"burst\": 1000000}}}");
	load("{\"default\": {\"minimum\": 1, \"maximum\": 1, \"ask_timeout_ms\": 1,"
	     " \"job_timeout_seconds\": 1, \"cpu_on\": {\"per_second\": 0, \"burst\": 1}}}");
}
END_TEST

START_TEST(missing_file)
{
	unlink(path);
	ck_assert_int_eq(config_load(&config, path, false, &error), -ENOENT);
	ck_assert_ptr_null(config);
	ck_assert_ptr_nonnull(strstr(error, path));
	ck_assert_ptr_nonnull(strstr(error, "No such file"));
	free(error);
	ck_assert_int_eq(config_load(&config, path, true, &error), 0);
	ck_assert_str_eq(config->bus, "system");
	config = config_free(config);
	/* optional is about the file, not about whether it can be read */
	ck_assert_int_eq(config_load(&config, "/", true, &error), -EISDIR);
	ck_assert_ptr_null(config);
}
END_TEST

START_TEST(options_replace_values_with_the_same_checks)
{
	char *why = NULL;

	load("{\"socket\": \"/a\", \"bus\": \"none\"}");
	ck_assert_int_eq(config_set(config, "socket", "/b", &why), 0);
	ck_assert_str_eq(config->socket, "/b");
	ck_assert_int_eq(config_set(config, "socket", "b", &why), -EINVAL);
	ck_assert_str_eq(config->socket, "/b");
	ck_assert_str_eq(why, "socket: expected an absolute path of at most 107 bytes, not \"b\"");
	free(why);
	ck_assert_int_eq(config_set(config, "bus", "session", &why), 0);
	ck_assert_str_eq(config->bus, "session");
	ck_assert_int_eq(config_set(config, "state_directory", "/c", &why), 0);
	ck_assert_str_eq(config->state_directory, "/c");
}
END_TEST

/* ---- what is wrong: the whole of each message, position first ---- */

static const struct {
	const char *text;
	const char *error; /* after the file's name */
} wrong[] = {
	/* jansson's own */
	{"{", ":1:1: string or '}' expected near end of file"},
	{"", ":1:1: '[' or '{' expected near end of file"},
	{"{\n  \"bus\": nil\n}", ":2:12: invalid token near 'nil'"},
	{"{} x", ":1:4: end of file expected near 'x'"},
	{"{\"bus\": \"none\",\n \"bus\": \"none\"}", ":2:6: duplicate object key near '\"bus\"'"},
	/* unknown keys, each level; the position is the key's */
	{"{\"sockets\": 1}", ":1:2: sockets: unknown key; expected one of socket, socket_mode, socket_group, "
			     "state_directory, bus, limits, default, vms"},
	{"{\n\t\"limits\": {\n\t\t\"vms\": 1,\n\t\t\"connection\": 1\n\t}\n}",
	 ":4:3: limits.connection: unknown key; expected one of vms, connections, connections_per_uid, "
	 "handshake_seconds, messages_per_second, messages_burst"},
	{"{\"default\": {\"cpu_on\": {\"burst\": 1, \"rate\": 1}}}",
	 ":1:37: default.cpu_on.rate: unknown key; expected one of per_second, burst"},
	/* types; the position is the value's */
	{"[]", ":1:1: expected an object, not an array"},
	{"{\"socket\": 5}", ":1:12: socket: expected an absolute path of at most 107 bytes, not 5"},
	{"{\"socket\": \"s\"}", ":1:12: socket: expected an absolute path of at most 107 bytes, not \"s\""},
	{"{\"socket_mode\": 660}", ":1:17: socket_mode: expected a string of octal digits up to \"0777\", not 660"},
	{"{\"socket_mode\": \"0x1f\"}",
	 ":1:17: socket_mode: expected a string of octal digits up to \"0777\", not \"0x1f\""},
	{"{\"socket_mode\": \"1777\"}",
	 ":1:17: socket_mode: expected a string of octal digits up to \"0777\", not \"1777\""},
	{"{\"socket_mode\": \"\"}", ":1:17: socket_mode: expected a string of octal digits up to \"0777\", not \"\""},
	{"{\"socket_group\": \"\"}", ":1:18: socket_group: expected the name of a group, not \"\""},
	{"{\"state_directory\": null}", ":1:21: state_directory: expected an absolute path, not null"},
	{"{\"bus\": \"systme\"}",
	 ":1:9: bus: expected \"system\", \"session\", \"none\" or the address of a bus, not \"systme\""},
	{"{\"limits\": []}", ":1:12: limits: expected an object, not an array"},
	{"{\"default\": true}", ":1:13: default: expected an object, not true"},
	{"{\"vms\": 3}", ":1:9: vms: expected an object, not 3"},
	{"{\"vms\": {\"a\": 3}}", ":1:15: vms.a: expected an object, not 3"},
	{"{\"default\": {\"observe\": 1}}", ":1:25: default.observe: expected true or false, not 1"},
	{"{\"default\": {\"verdicts\": \"pages\"}}",
	 ":1:26: default.verdicts: expected \"page\" or \"ask\", not \"pages\""},
	{"{\"default\": {\"on_timeout\": {}}}",
	 ":1:28: default.on_timeout: expected \"deny\" or \"allow\", not an object"},
	{"{\"default\": {\"maximum\": 4.0}}", ":1:25: default.maximum: expected an integer from 1 to 512, not 4.0"},
	{"{\"default\": {\"maximum\": \"4\"}}", ":1:25: default.maximum: expected an integer from 1 to 512, not \"4\""},
	/* ranges */
	{"{\"default\": {\"minimum\": 0}}", ":1:25: default.minimum: expected an integer from 1 to 512, not 0"},
	{"{\"default\": {\"maximum\": 513}}", ":1:25: default.maximum: expected an integer from 1 to 512, not 513"},
	{"{\"default\": {\"maximum\": -1}}", ":1:25: default.maximum: expected an integer from 1 to 512, not -1"},
	{"{\"default\": {\"ask_timeout_ms\": 60001}}",
	 ":1:32: default.ask_timeout_ms: expected an integer from 1 to 60000, not 60001"},
	{"{\"default\": {\"cpu_on\": {\"burst\": 0}}}",
	 ":1:34: default.cpu_on.burst: expected an integer from 1 to 1000000, not 0"},
	{"{\"limits\": {\"messages_per_second\": 0}}",
	 ":1:36: limits.messages_per_second: expected an integer from 1 to 10000000, not 0"},
	/* values that contradict each other, one of them inherited or not */
	{"{\"default\": {\"minimum\": 4,\n \"maximum\": 3}}",
	 ":1:25: default.minimum: expected at most the maximum, 3, not 4"},
	{"{\"vms\": {\"a\": {\"minimum\": 4}},\n \"default\": {\"maximum\": 3}}",
	 ":1:27: vms.a.minimum: expected at most the maximum, 3, not 4"},
	{"{\"vms\": {\"a\": {\"maximum\": 1}}, \"default\": {\"minimum\": 2}}",
	 ":1:27: vms.a.maximum: expected at least the minimum, 2, not 1"},
	/* VMs */
	{"{\"vms\": {\"\": {}}}", ":1:10: vms.: expected the name or the UUID of a VM: the name is empty"},
	{"{\"vms\": {\"a\\nb\": {}}}",
	 ":1:10: vms.a\nb: expected the name or the UUID of a VM: a text has control characters"},
	{"{\"vms\": {\"00000000-0000-0000-0000-000000000000\": {}}}",
	 ":1:10: vms.00000000-0000-0000-0000-000000000000: expected the name or the UUID of a VM, not the nil UUID"},
	{"{\"vms\": {\"6BA7B810-9DAD-11D1-80B4-00C04FD430C8\": {},\n \"" UUID "\": {}}}",
	 ":2:2: vms." UUID ": expected each VM once; it is the same UUID as \"6BA7B810-9DAD-11D1-80B4-00C04FD430C8\""},
	/* positions are right behind whatever may stand before them */
	{"\n\n  {\"vms\"\t:\r\n{ \"\xc3\xa4\\\"}{][,:\\\\\" : {\"cpu_on\":{ }, \"observe\":false}  ,\n"
	 "\"b\":{\"cpu_on\":{\"burst\":7,\"per_second\":0},\"verdicts\":\"ask\"},  \"\xe2\x82\xac\": {\"maximum\":0}}}",
	 ":5:78: vms.\xe2\x82\xac.maximum: expected an integer from 1 to 512, not 0"},
	{"{\"vms\": {\"\xc3\xa4\xe2\x82\xac\": 1}}", ":1:16: vms.\xc3\xa4\xe2\x82\xac: expected an object, not 1"},
};

START_TEST(errors_say_where_and_what)
{
	int r = load_bytes(wrong[_i].text, strlen(wrong[_i].text));

	ck_assert_int_eq(r, -EINVAL);
	ck_assert_ptr_null(config);
	ck_assert_ptr_nonnull(error);
	ck_assert_int_eq(strncmp(error, path, strlen(path)), 0);
	ck_assert_str_eq(error + strlen(path), wrong[_i].error);
}
END_TEST

START_TEST(bytes_that_are_no_text)
{
	ck_assert_int_eq(load_bytes("{}\0{}", 5), -EINVAL);
	ck_assert_int_eq(load_bytes("{\"vms\": {\"a\0b\": {}}}", 20), -EINVAL);
	ck_assert_int_eq(load_bytes("{\"vms\": {\"a\\u0000b\": {}}}", 25), -EINVAL);
	ck_assert_int_eq(load_bytes("\xff\xfe{\0}\0", 6), -EINVAL);
	ck_assert_int_eq(load_bytes("{\"vms\": {\"\xc3\": {}}}", 17), -EINVAL);
}
END_TEST

/* A long value is cut in the message, at a character. */
START_TEST(long_values_are_cut)
{
	char text[1024] = "{\"bus\": \"";

	for (unsigned i = 0; i < 200; i++)
		strcat(text, "\xe2\x82\xac");
	strcat(text, "\"}");
	ck_assert_int_eq(load_bytes(text, strlen(text)), -EINVAL);
	ck_assert_uint_lt(strlen(error), 250);
	ck_assert_str_eq(error + strlen(error) - 6, "\xe2\x82\xac...");
}
END_TEST

START_TEST(huge_files_are_refused)
{
	FILE *f = fopen(path, "we");

	ck_assert_int_eq(ftruncate(fileno(f), 17 << 20), 0);
	fclose(f);
	ck_assert_int_eq(config_load(&config, path, false, &error), -EFBIG);
	ck_assert_ptr_nonnull(error);
}
END_TEST

/* Every prefix and every file with one byte changed is loaded or refused, never worse: run with sanitizers. */
START_TEST(damaged_files_are_survived)
{
	static const char text[] =
		"{\"limits\": {\"vms\": 1}, \"vms\": {\"a\\\"b\": {\"minimum\": 2}, \"" UUID "\": {}},"
		" \"default\": {\"maximum\": 3, \"observe\": false, \"cpu_on\": {\"burst\": 1}}}";
	static const char replacements[] = "{}[]\",:\\0 x\n\x80";
	char changed[sizeof(text)];

	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		ck_assert_int_eq(load_bytes(text, i), -EINVAL);
		for (size_t j = 0; j < sizeof(replacements) - 1; j++) {
			int r;

			strcpy(changed, text);
			changed[i] = replacements[j];
			r = load_bytes(changed, sizeof(text) - 1);
			ck_assert(r == 0 || r == -EINVAL);
			ck_assert((r == 0) == (config != NULL));
			ck_assert((r == 0) == (error == NULL));
		}
	}
}
END_TEST

START_TEST(example_is_correct)
{
	const char *srcdir = getenv("srcdir");
	char example[4096];

	snprintf(example, sizeof(example), "%s/docs/cpupolicyd.conf.example", srcdir ? srcdir : ".");
	ck_assert_msg(config_load(&config, example, false, &error) == 0, "%s", error ? error : "");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("config");
	TCase *tc = tcase_create("config");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, defaults);
	tcase_add_test(tc, every_key);
	tcase_add_test(tc, vms_inherit);
	tcase_add_test(tc, rule_for_uuid_is_nearer_than_rule_for_name);
	tcase_add_test(tc, bounds_are_inclusive);
	tcase_add_test(tc, missing_file);
	tcase_add_test(tc, options_replace_values_with_the_same_checks);
	tcase_add_loop_test(tc, errors_say_where_and_what, 0, (int)ARRAY_SIZE(wrong));
	tcase_add_test(tc, bytes_that_are_no_text);
	tcase_add_test(tc, long_values_are_cut);
	tcase_add_test(tc, huge_files_are_refused);
	tcase_add_test(tc, damaged_files_are_survived);
	tcase_add_test(tc, example_is_correct);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
