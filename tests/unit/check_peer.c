/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/peer.h"
#include "daemon/base/util.h"

/* A child that does `work`, then waits to be told to end. */
struct child {
	pid_t pid;
	int fd; /* a byte comes when it is ready; it ends when this is closed */
};

static struct child start(void (*work)(int fd))
{
	struct child child;
	int pair[2];
	char c;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	child.pid = fork();
	ck_assert_int_ge(child.pid, 0);
	if (child.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		work(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	child.fd = pair[0];
	ck_assert_int_eq(read(child.fd, &c, 1), 1);
	return child;
}

static void ready_and_wait(int fd)
{
	char c = 0;

	if (write(fd, &c, 1) != 1 || read(fd, &c, 1) < 0)
		_exit(1);
}

/* Until it is a zombie, which stays so since nobody has waited for it. */
static void end(struct child *child)
{
	siginfo_t info;

	close(child->fd);
	ck_assert_int_eq(waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOWAIT), 0);
}

static void reap(struct child *child)
{
	ck_assert_int_eq(waitpid(child->pid, NULL, 0), child->pid);
}

/* Connects by a listening socket, as a VMM does: with socketpair() both ends would be ours. */
static struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0cpupolicy-check-peer"};

static int listen_here(socklen_t *ret_length)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 21);
	snprintf(address.sun_path + 21, 16, "%d", getpid());
	*ret_length += (socklen_t)strlen(address.sun_path + 21);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, *ret_length), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

static socklen_t address_length;
static uid_t child_uid;

static void connect_there(int fd)
{
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* A name that would mislead who splits the line at spaces or at the first parenthesis. */
	prctl(PR_SET_NAME, "x) Z 1 1 (y");
	if (child_uid != getuid() &&
	    (setgroups(2, (const gid_t[]){4243, 4244}) < 0 || setgid(child_uid) < 0 || setuid(child_uid) < 0))
		_exit(1);
	if (connect(s, (struct sockaddr *)&address, address_length) < 0)
		_exit(1);
	ready_and_wait(fd);
}

START_TEST(peer_is_who_connected)
{
	int listener = listen_here(&address_length), connection;
	struct child child;
	struct peer peer;

	child_uid = getuid() == 0 ? 4242 : getuid();
	child = start(connect_there);
	connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(connection, 0);
	ck_assert_int_eq(peer_from_socket(&peer, connection), 0);
	ck_assert_int_eq(peer.pid, child.pid);
	ck_assert_uint_eq(peer.uid, child_uid);
	if (getuid() == 0) {
		ck_assert_uint_eq(peer.gid, child_uid);
		ck_assert(peer_in_group(&peer, 4243) && peer_in_group(&peer, 4244));
	}
	ck_assert(!peer_in_group(&peer, 4245));
	ck_assert_uint_ne(peer.start_time, 0);
	if (peer.label) {
		ck_assert_uint_ne(strlen(peer.label), 0);
		ck_assert_ptr_null(strchr(peer.label, '\n'));
	}
	ck_assert(peer_alive(peer.pid, peer.start_time));
	/* the process that has its number is another one */
	ck_assert(!peer_alive(peer.pid, peer.start_time + 1));
	ck_assert(!peer_alive(peer.pid, peer.start_time - 1));
	/* nothing is known of when it started, and there is one */
	ck_assert(peer_alive(peer.pid, 0));

	end(&child);
	ck_assert(!peer_alive(peer.pid, peer.start_time));
	ck_assert(!peer_alive(peer.pid, 0));
	reap(&child);
	ck_assert(!peer_alive(peer.pid, peer.start_time));
	ck_assert(!peer_alive(peer.pid, 0));

	/* The connection outlives the process: what the kernel kept is still told, what it did not is not made up. */
	peer_clear(&peer);
	ck_assert_ptr_null(peer.label);
	ck_assert_int_eq(peer_from_socket(&peer, connection), 0);
	ck_assert_int_eq(peer.pid, child.pid);
	ck_assert_uint_eq(peer.start_time, 0);
	peer_clear(&peer);
	close(connection);
	close(listener);
}
END_TEST

START_TEST(copy_is_its_own)
{
	gid_t groups[] = {1, 2};
	struct peer peer = {
		.uid = 1,
		.pid = 2,
		.start_time = 3,
		.label = (char *)"label (enforce)",
		.machine = (char *)"machine",
		.unit = (char *)"unit",
		.slice = (char *)"slice",
		.groups = groups,
		.n_groups = 2,
	};
	struct peer copy;

	ck_assert_int_eq(peer_copy(&copy, &peer), 0);
	groups[1] = 9;
	ck_assert(peer_alike(&copy, &peer) && peer_same_process(&copy, &peer));
	ck_assert_str_eq(copy.machine, "machine");
	ck_assert_str_eq(copy.slice, "slice");
	ck_assert(copy.label != peer.label && copy.unit != peer.unit);
	ck_assert(peer_in_group(&copy, 2) && peer_in_group(&copy, 0) && !peer_in_group(&copy, 9));
	copy.start_time = 4;
	ck_assert(!peer_same_process(&copy, &peer));
	copy.start_time = peer.start_time = 0;
	ck_assert(!peer_same_process(&copy, &peer)); /* it may be a later one with its number */
	free(copy.unit);
	copy.unit = NULL;
	ck_assert(!peer_alike(&copy, &peer));
	peer_clear(&copy);
}
END_TEST

START_TEST(label_without_its_mode)
{
	ck_assert_uint_eq(peer_label_length("libvirt-1 (enforce)"), 9);
	ck_assert_uint_eq(peer_label_length("unconfined"), 10);
	ck_assert_uint_eq(peer_label_length("system_u:system_r:svirt_t:s0:c1,c2"), 34);
	ck_assert_uint_eq(peer_label_length("a b"), 3);
	ck_assert_uint_eq(peer_label_length("a (b"), 4);
	ck_assert_uint_eq(peer_label_length(" (b)"), 4);
	ck_assert_uint_eq(peer_label_length(""), 0);
}
END_TEST

START_TEST(sender_by_its_credentials)
{
	struct child child = start(ready_and_wait);
	struct ucred cred = {.pid = child.pid, .uid = 12, .gid = 13};
	struct peer peer;

	ck_assert_int_eq(peer_from_credentials(&peer, &cred), 0);
	ck_assert_uint_eq(peer.uid, 12);
	ck_assert(peer_in_group(&peer, 13) && !peer_in_group(&peer, 0));
	ck_assert(peer_alive(child.pid, peer.start_time));
	ck_assert_uint_ne(peer.start_time, 0);
	peer_clear(&peer);
	end(&child);
	reap(&child);
	/* not visible from here */
	cred.pid = 0;
	ck_assert_int_eq(peer_from_credentials(&peer, &cred), 0);
	ck_assert_int_eq(peer.pid, 0);
	ck_assert_uint_eq(peer.start_time, 0);
	ck_assert_ptr_null(peer.label);
	peer_clear(&peer);
}
END_TEST

START_TEST(unknown_processes_are_not_said_to_be_gone)
{
	ck_assert(peer_alive(0, 0));
	ck_assert(peer_alive(0, 12345));
	ck_assert(!peer_alive(PEER_PID_GONE, 0));
}
END_TEST

static int thread_fd;

static void *wait_in_thread(void *userdata)
{
	char stat[512] = "", path[64];

	/* until the first thread is a zombie */
	snprintf(path, sizeof(path), "/proc/%d/stat", getpid());
	while (!strstr(stat, ") Z ")) {
		FILE *f = fopen(path, "re");

		if (!f || !fgets(stat, sizeof(stat), f))
			_exit(1);
		fclose(f);
	}
	ready_and_wait(thread_fd);
	_exit(0);
}

static void lose_first_thread(int fd)
{
	pthread_t thread;

	thread_fd = fd;
	if (pthread_create(&thread, NULL, wait_in_thread, NULL) != 0)
		_exit(1);
	pthread_exit(NULL);
}

START_TEST(process_without_its_first_thread_is_alive)
{
	struct child child = start(lose_first_thread);

	ck_assert(peer_alive(child.pid, 0));
	end(&child);
	ck_assert(!peer_alive(child.pid, 0));
	reap(&child);
}
END_TEST

START_TEST(what_is_no_socket_has_no_peer)
{
	struct peer peer = {.pid = 7};
	int fd = dup(STDERR_FILENO);

	close(fd);
	ck_assert_int_eq(peer_from_socket(&peer, fd), -EBADF);
	ck_assert_int_eq(peer.pid, 7);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("peer");
	TCase *tc = tcase_create("peer");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, peer_is_who_connected);
	tcase_add_test(tc, copy_is_its_own);
	tcase_add_test(tc, label_without_its_mode);
	tcase_add_test(tc, sender_by_its_credentials);
	tcase_add_test(tc, unknown_processes_are_not_said_to_be_gone);
	tcase_add_test(tc, process_without_its_first_thread_is_alive);
	tcase_add_test(tc, what_is_no_socket_has_no_peer);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
