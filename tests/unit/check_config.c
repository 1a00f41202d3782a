/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/settings/config.h"
#include "daemon/base/util.h"

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
	ck_assert_uint_eq(config->max_connections_per_unit, 768);
	ck_assert_uint_eq(config->handshake_timeout, 10 * NSEC_PER_SEC);
	ck_assert_uint_eq(config->messages.per_second, 20000);
	ck_assert_uint_eq(config->messages.burst, 40000);
	ck_assert_str_eq(config->policy_directory, SYSCONFDIR "/cpupolicy/policy.d");
	ck_assert_ptr_null(config->record_directory);
}
END_TEST

/* Each key, with a value that is not its default. */
START_TEST(every_key)
{
	load("{\n"
	     "\"socket\": \"/tmp/s\", \"socket_mode\": \"0606\", \"socket_group\": \"kvm\",\n"
	     "\"state_directory\": \"/tmp/d\", \"policy_directory\": \"/tmp/p\", \"record_directory\": \"/tmp/r\",\n"
	     "\"bus\": \"unix:path=/tmp/bus\",\n"
	     "\"limits\": {\"vms\": 1, \"connections\": 2, \"connections_per_uid\": 3, \"connections_per_unit\": 7, "
	     "\"handshake_seconds\": 4,\n"
	     "            \"messages_per_second\": 5, \"messages_burst\": 6}\n"
	     "}\n");
	ck_assert_str_eq(config->socket, "/tmp/s");
	ck_assert_uint_eq(config->socket_mode, 0606);
	ck_assert_str_eq(config->socket_group, "kvm");
	ck_assert_str_eq(config->state_directory, "/tmp/d");
	ck_assert_str_eq(config->bus, "unix:path=/tmp/bus");
	ck_assert_uint_eq(config->max_vms, 1);
	ck_assert_uint_eq(config->max_connections, 2);
	ck_assert_uint_eq(config->max_connections_per_uid, 3);
	ck_assert_uint_eq(config->max_connections_per_unit, 7);
	ck_assert_uint_eq(config->handshake_timeout, 4 * NSEC_PER_SEC);
	ck_assert_uint_eq(config->messages.per_second, 5);
	ck_assert_uint_eq(config->messages.burst, 6);
	ck_assert_str_eq(config->policy_directory, "/tmp/p");
	ck_assert_str_eq(config->record_directory, "/tmp/r");
}
END_TEST

START_TEST(bounds_are_inclusive)
{
	load("{\"limits\": {\"vms\": 65536, \"connections\": 65536, \"connections_per_uid\": 65536,"
	     " \"handshake_seconds\": 3600, \"messages_per_second\": 10000000, \"messages_burst\": 10000000}}");
	load("{\"limits\": {\"vms\": 1, \"connections\": 1, \"connections_per_uid\": 1,"
	     " \"handshake_seconds\": 1, \"messages_per_second\": 1, \"messages_burst\": 1}}");
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
	ck_assert_int_eq(config_set(config, "policy_directory", "/d", &why), 0);
	ck_assert_str_eq(config->policy_directory, "/d");
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
	{"{\"sockets\": 1}",
	 ":1:2: sockets: unknown key; expected one of socket, socket_mode, socket_group, "
	 "state_directory, policy_directory, record_directory, bus, metrics, metrics_group, limits"},
	{"{\n\t\"limits\": {\n\t\t\"vms\": 1,\n\t\t\"connection\": 1\n\t}\n}",
	 ":4:3: limits.connection: unknown key; expected one of vms, connections, connections_per_uid, "
	 "connections_per_unit, "
	 "handshake_seconds, messages_per_second, messages_burst"},
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
	{"{\"policy_directory\": \"policy.d\"}",
	 ":1:22: policy_directory: expected an absolute path, not \"policy.d\""},
	{"{\"record_directory\": {}}", ":1:22: record_directory: expected an absolute path, not an object"},
	{"{\"bus\": \"systme\"}",
	 ":1:9: bus: expected \"system\", \"session\", \"none\" or the address of a bus, not \"systme\""},
	{"{\"limits\": []}", ":1:12: limits: expected an object, not an array"},
	{"{\"limits\": {\"vms\": 4.0}}", ":1:20: limits.vms: expected an integer from 1 to 65536, not 4.0"},
	{"{\"limits\": {\"vms\": \"4\"}}", ":1:20: limits.vms: expected an integer from 1 to 65536, not \"4\""},
	/* ranges */
	{"{\"limits\": {\"vms\": 0}}", ":1:20: limits.vms: expected an integer from 1 to 65536, not 0"},
	{"{\"limits\": {\"vms\": 65537}}", ":1:20: limits.vms: expected an integer from 1 to 65536, not 65537"},
	{"{\"limits\": {\"vms\": -1}}", ":1:20: limits.vms: expected an integer from 1 to 65536, not -1"},
	{"{\"limits\": {\"messages_per_second\": 0}}",
	 ":1:36: limits.messages_per_second: expected an integer from 1 to 10000000, not 0"},
	/* positions are right behind whatever may stand before them */
	{"\n\n  {\"socket_group\"\t:\r\n \"\xc3\xa4\\\"}{][,:\\\\\" ,  \"limits\" : { \"handshake_seconds\" : 7  ,\n"
	 "\"vms\":12, \"connections\": 0}}",
	 ":5:26: limits.connections: expected an integer from 1 to 65536, not 0"},
	{"{\"socket_group\": \"\xc3\xa4\xe2\x82\xac\", \"limits\": 1}", ":1:34: limits: expected an object, not 1"},
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
	ck_assert_int_eq(load_bytes("{\"socket_group\": \"a\0b\"}", 23), -EINVAL);
	ck_assert_int_eq(load_bytes("{\"socket_group\": \"a\\u0000b\"}", 28), -EINVAL);
	ck_assert_int_eq(load_bytes("\xff\xfe{\0}\0", 6), -EINVAL);
	ck_assert_int_eq(load_bytes("{\"socket_group\": \"\xc3\"}", 21), -EINVAL);
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
		"{\"limits\": {\"vms\": 1}, \"socket_group\": \"a\\\"b\", \"socket\": \"/run/\xc3\xa4\","
		" \"bus\": \"none\", \"socket_mode\": \"0660\"}";
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
