/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The socket file, and those who connect to it and do not register. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/vmm/listener.h"
#include "daemon/base/util.h"
#include "tests/unit/rig.h"

#define STRANGERS 8

static struct rig rig;
static struct listener *listener;
static char *error;
static char path[64];

static void setup(void)
{
	rig_open(&rig);
	snprintf(path, sizeof(path), "%s/vmm.sock", rig.directory);
	free(rig.config->socket);
	rig.config->socket = strdup(path);
	rig.config->max_connections = STRANGERS;
	rig.config->max_connections_per_uid = STRANGERS;
	rig_start(&rig);
}

static void teardown(void)
{
	listener = listener_free(listener);
	free(error);
	rig_close(&rig);
}

static void start(void)
{
	ck_assert_msg(listener_new(&listener, rig.loop, rig.host, rig.config, NULL, &error) == 0, "%s", error);
}

static void check_refused(int r)
{
	ck_assert_int_eq(listener_new(&listener, rig.loop, rig.host, rig.config, NULL, &error), r);
	ck_assert_ptr_null(listener);
	ck_assert_ptr_nonnull(error);
	free(error);
	error = NULL;
}

/* ---- the file ---- */

START_TEST(socket_file)
{
	struct stat st;
	struct vmm v;

	rig.config->socket_mode = 0640;
	start();
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert(S_ISSOCK(st.st_mode));
	ck_assert_uint_eq(st.st_mode & 07777, 0640);
	vmm_connect_path(&v, &rig, 1, path);
	vmm_hello(&v);
	vmm_register(&v);
	ck_assert_int_eq(host_vm_peer(host_find(rig.host, "vm1"))->pid, getpid());
	ck_assert_uint_eq(host_vm_peer(host_find(rig.host, "vm1"))->uid, getuid());
	listener = listener_free(listener);
	ck_assert_int_lt(stat(path, &st), 0);
	/* the daemon's end is not the VM's */
	ck_assert_ptr_nonnull(host_find(rig.host, "vm1"));
	vmm_expect_end(&v);
	vmm_close(&v);
}
END_TEST

START_TEST(stale_socket_is_replaced)
{
	char other[80];
	struct vmm v;

	start();
	/* as after a kill -9: the file is there, and nobody behind it */
	snprintf(other, sizeof(other), "%s.kept", path);
	ck_assert_int_eq(rename(path, other), 0);
	listener = listener_free(listener);
	ck_assert_int_eq(rename(other, path), 0);
	start();
	vmm_connect_path(&v, &rig, 1, path);
	vmm_hello(&v);
	vmm_close(&v);
}
END_TEST

START_TEST(other_files_are_left_alone)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	close(fd);
	check_refused(-EEXIST);
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(bad_settings)
{
	rig.config->socket_group = strdup("no-such-group-here");
	check_refused(-ENOENT);
	ck_assert_int_lt(access(path, F_OK), 0);
	free(rig.config->socket_group);
	rig.config->socket_group = NULL;
	free(rig.config->socket);
	rig.config->socket = strdup("/nonexistent/directory/vmm.sock");
	check_refused(-ENOENT);
	free(rig.config->socket);
	rig.config->socket = malloc(200);
	memset(rig.config->socket, 'x', 199);
	rig.config->socket[199] = '\0';
	check_refused(-ENAMETOOLONG);
}
END_TEST

/* ---- strangers ---- */

static void check_quota(uint32_t n)
{
	struct vmm vmms[STRANGERS], over, registered;

	start();
	vmm_connect_path(&registered, &rig, 100, path);
	vmm_hello(&registered);
	vmm_register(&registered); /* is none any more */
	for (uint32_t i = 0; i < n; i++) {
		vmm_connect_path(&vmms[i], &rig, (uint8_t)(i + 1), path);
		vmm_hello(&vmms[i]);
	}
	vmm_connect_path(&over, &rig, 50, path);
	vmm_expect_end(&over);
	vmm_close(&over);
	/* who was there before notices nothing, and one who leaves makes room */
	vmm_register(&vmms[0]);
	vmm_connect_path(&over, &rig, 50, path);
	vmm_hello(&over);
	vmm_close(&vmms[1]);
	vmm_register(&over);
	ck_assert_int_eq(vmm_ask(&registered, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	for (uint32_t i = 0; i < n; i++)
		vmm_close(&vmms[i]);
	vmm_close(&over);
	vmm_close(&registered);
}

START_TEST(quota_of_strangers)
{
	check_quota(STRANGERS);
}
END_TEST

START_TEST(quota_of_a_user)
{
	rig.config->max_connections = 1000;
	rig.config->max_connections_per_uid = 3;
	check_quota(3);
}
END_TEST

START_TEST(time_to_register)
{
	struct vmm silent, greeted, prompt;
	uint64_t since;

	rig.config->handshake_timeout = 200 * NSEC_PER_SEC / 1000;
	start();
	since = rig_clock();
	vmm_connect_path(&silent, &rig, 1, path);
	vmm_connect_path(&greeted, &rig, 2, path);
	vmm_connect_path(&prompt, &rig, 3, path);
	vmm_hello(&greeted);
	vmm_hello(&prompt);
	vmm_register(&prompt);
	vmm_expect_end(&silent);
	vmm_expect_end(&greeted);
	ck_assert_uint_ge(rig_clock() - since, UINT64_C(190000000));
	ck_assert_int_eq(vmm_ask(&prompt, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	vmm_close(&silent);
	vmm_close(&greeted);
	vmm_close(&prompt);
}
END_TEST

/* ---- descriptors ---- */

static void quit(void *userdata)
{
	loop_quit(rig.loop);
}

static uint64_t cpu_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* For 300 ms of real time the loop has nothing to do: CPU time that it uses is that of spinning. */
static void check_rests(void)
{
	struct loop_timer *timer;
	uint64_t before = cpu_time();

	ck_assert_int_eq(loop_timer_new(&timer, rig.loop, quit, NULL), 0);
	loop_timer_set(timer, loop_now(rig.loop) + 300 * NSEC_PER_SEC / 1000);
	ck_assert_int_eq(loop_run(rig.loop), 0);
	loop_timer_free(timer);
	ck_assert_uint_lt(cpu_time() - before, 50 * NSEC_PER_SEC / 1000);
}

START_TEST(no_descriptor_left)
{
	struct rlimit limit, low;
	struct vmm first, second;
	int last;

	start();
	vmm_connect_path(&first, &rig, 1, path);
	vmm_hello(&first);
	vmm_connect_path(&second, &rig, 2, path);
	last = dup(0);
	ck_assert_int_ge(last, 0);
	close(last);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)last;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	vmm_send(&second, CPUPOLICY_HELLO, 0, &(struct cpupolicy_hello){0}, sizeof(struct cpupolicy_hello));
	ck_assert(!vmm_has_input(&second));
	check_rests();
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	vmm_receive(&second);
	ck_assert_uint_eq(second.header.request, CPUPOLICY_HELLO);
	vmm_close(&first);
	vmm_close(&second);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("listener");
	TCase *tc = tcase_create("listener");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, socket_file);
	tcase_add_test(tc, stale_socket_is_replaced);
	tcase_add_test(tc, other_files_are_left_alone);
	tcase_add_test(tc, bad_settings);
	tcase_add_test(tc, quota_of_strangers);
	tcase_add_test(tc, quota_of_a_user);
	tcase_add_test(tc, time_to_register);
	tcase_add_test(tc, no_descriptor_left);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
