/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"

/* What was written to stderr, which is a pipe here. */
static int stderr_pipe[2];

static void setup(void)
{
	ck_assert_int_eq(pipe2(stderr_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(dup2(stderr_pipe[1], STDERR_FILENO), STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
}

static const char *written(void)
{
	static char text[8192];
	ssize_t n = read(stderr_pipe[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

START_TEST(text_is_a_line_with_fields)
{
	const struct log_field fields[] = {{"VM", "web1"}, {"LEFT_OUT", NULL}, {"VCPU", "4"}, {NULL, NULL}};

	log_open(LOG_INFO, false);
	log_fields(LOG_WARNING, fields, "%s was %d", "it", 5);
	ck_assert_str_eq(written(), "WARNING it was 5 VM=web1 VCPU=4\n");
	log_error("no fields");
	ck_assert_str_eq(written(), "ERROR no fields\n");
}
END_TEST

START_TEST(level_bounds_what_is_written)
{
	log_open(LOG_WARNING, false);
	log_info("not this");
	ck_assert_str_eq(written(), "");
	log_warning("this");
	ck_assert_str_eq(written(), "WARNING this\n");
	log_open(LOG_DEBUG, false);
	log_debug("and this");
	ck_assert_str_eq(written(), "DEBUG and this\n");
}
END_TEST

START_TEST(peers_cannot_write_lines_or_control_terminals)
{
	const struct log_field fields[] = {{"NAME", "a\nERROR b"}, {NULL, NULL}};

	log_open(LOG_INFO, false);
	log_fields(LOG_INFO, fields, "%s", "x\033[2J\r\ty\x7f");
	ck_assert_str_eq(written(), "INFO x?[2J??y? NAME=a?ERROR b\n");
}
END_TEST

START_TEST(long_lines_end)
{
	char long_text[4000];
	const struct log_field fields[] = {{"A", "1"}, {"B", long_text}, {"C", "3"}, {NULL, NULL}};
	const char *line;

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	log_open(LOG_INFO, false);
	log_fields(LOG_INFO, fields, "%s", long_text);
	line = written();
	ck_assert_uint_lt(strlen(line), 3500);
	/* a field is there in full or not at all */
	ck_assert_str_eq(line + strlen(line) - 5, " A=1\n");
}
END_TEST

START_TEST(errno_survives)
{
	log_open(LOG_INFO, false);
	close(STDERR_FILENO);
	errno = EXDEV;
	log_error("to nowhere");
	ck_assert_int_eq(errno, EXDEV);
}
END_TEST

/* ---- the journal: a socket of ours where journald's is ---- */

static int listen_as_journal(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (unshare(CLONE_NEWNS | (getuid() == 0 ? 0 : CLONE_NEWUSER)) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("none", "/run", "tmpfs", 0, NULL) < 0) {
		close(fd);
		return -1;
	}
	ck_assert_int_eq(mkdir("/run/systemd", 0755), 0);
	ck_assert_int_eq(mkdir("/run/systemd/journal", 0755), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void set_journal_stream(unsigned long add)
{
	char text[64];
	struct stat st;

	ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + add);
	setenv("JOURNAL_STREAM", text, 1);
}

/* `entry` is lines of NAME=value, in the journal's own format for values without newlines. */
static bool has_line(const char *entry, const char *line)
{
	const char *at = strstr(entry, line);

	return at && (at == entry || at[-1] == '\n') && at[strlen(line)] == '\n';
}

START_TEST(journal_gets_fields)
{
	const struct log_field fields[] = {{"VM_UUID", "u"}, {"LEFT_OUT", NULL}, {"REASON", "not enabled"}, {0}};
	char entry[4096];
	int fd = listen_as_journal();
	ssize_t n;

	if (fd < 0)
		return; /* no mount namespaces for this user: there is no other place to listen at */
	set_journal_stream(0);
	log_open(LOG_INFO, false);
	log_fields(LOG_NOTICE, fields, "denied %d", 7);
	n = recv(fd, entry, sizeof(entry) - 1, 0);
	ck_assert_int_gt(n, 0);
	entry[n] = '\0';
	ck_assert(has_line(entry, "MESSAGE=denied 7"));
	ck_assert(has_line(entry, "PRIORITY=5"));
	ck_assert(has_line(entry, "VM_UUID=u"));
	ck_assert(has_line(entry, "REASON=not enabled"));
	ck_assert_ptr_null(strstr(entry, "LEFT_OUT"));
	ck_assert_str_eq(written(), "");
	/* by hand, whatever stderr is */
	log_open(LOG_INFO, true);
	log_info("text");
	ck_assert_str_eq(written(), "INFO text\n");
	ck_assert_int_eq(recv(fd, entry, sizeof(entry), 0), -1);
}
END_TEST

START_TEST(journal_stream_of_somebody_else)
{
	static const char *const streams[] = {"", "1", "a:b", "1:2:3"};

	set_journal_stream(1);
	log_open(LOG_INFO, false);
	log_info("redirected");
	ck_assert_str_eq(written(), "INFO redirected\n");
	for (unsigned i = 0; i < ARRAY_SIZE(streams); i++) {
		setenv("JOURNAL_STREAM", streams[i], 1);
		log_open(LOG_INFO, false);
		log_info("text");
		ck_assert_str_eq(written(), "INFO text\n");
	}
}
END_TEST

/* ---- the gate ---- */

START_TEST(gate_bounds_a_window)
{
	struct log_gate gate = {0};
	uint64_t start = 12345;
	uint32_t dropped = 99;

	for (unsigned i = 0; i < 3; i++) {
		ck_assert(log_gate_open(&gate, 3, start + i, &dropped));
		ck_assert_uint_eq(dropped, 0);
	}
	dropped = 99;
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(!log_gate_open(&gate, 3, start + 10 * NSEC_PER_SEC - 1, &dropped));
	ck_assert_uint_eq(dropped, 99);
	/* the next window tells, once */
	ck_assert(log_gate_open(&gate, 3, start + 10 * NSEC_PER_SEC, &dropped));
	ck_assert_uint_eq(dropped, 1000);
	ck_assert(log_gate_open(&gate, 3, start + 10 * NSEC_PER_SEC, &dropped));
	ck_assert_uint_eq(dropped, 0);
}
END_TEST

START_TEST(gate_works_at_time_zero)
{
	struct log_gate gate = {0};
	uint32_t dropped;

	ck_assert(log_gate_open(&gate, 1, 0, &dropped));
	ck_assert(!log_gate_open(&gate, 1, 1, &dropped));
	gate.dropped = UINT32_MAX;
	ck_assert(!log_gate_open(&gate, 1, 1, &dropped));
	ck_assert(log_gate_open(&gate, 1, 11 * NSEC_PER_SEC, &dropped));
	ck_assert_uint_eq(dropped, UINT32_MAX);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("log");
	TCase *tc = tcase_create("log");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, text_is_a_line_with_fields);
	tcase_add_test(tc, level_bounds_what_is_written);
	tcase_add_test(tc, peers_cannot_write_lines_or_control_terminals);
	tcase_add_test(tc, long_lines_end);
	tcase_add_test(tc, errno_survives);
	tcase_add_test(tc, journal_gets_fields);
	tcase_add_test(tc, journal_stream_of_somebody_else);
	tcase_add_test(tc, gate_bounds_a_window);
	tcase_add_test(tc, gate_works_at_time_zero);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
