/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/util.h"
#include "daemon/host/vmpage.h"
#include "proto/page.h"

static struct vmpage *page;
static int page_fd, bell;

static void setup(void)
{
	ck_assert_int_eq(vmpage_new(&page, 6, 1500), 0);
	ck_assert_int_eq(vmpage_take_descriptors(page, &page_fd, &bell), 0);
}

static void teardown(void)
{
	page = vmpage_free(page);
	close(page_fd);
	if (bell >= 0)
		close(bell);
}

START_TEST(count_of_vcpus_is_bounded)
{
	struct vmpage *p = NULL;

	ck_assert_int_eq(vmpage_new(&p, 0, 1), -EINVAL);
	ck_assert_int_eq(vmpage_new(&p, CPUPOLICY_MAX_VCPUS + 1, 1), -EINVAL);
	ck_assert_ptr_null(p);
	ck_assert_int_eq(vmpage_new(&p, CPUPOLICY_MAX_VCPUS, 1), 0);
	ck_assert_uint_ge(vmpage_size(p), cpupolicy_page_bytes(CPUPOLICY_MAX_VCPUS));
	ck_assert_uint_eq(vmpage_size(p) % (uint32_t)sysconf(_SC_PAGESIZE), 0);
	ck_assert_ptr_null(vmpage_free(p));
	ck_assert_ptr_null(vmpage_free(NULL));
}
END_TEST

START_TEST(what_is_published_is_seen)
{
	struct cpupolicy_page *map = mmap(NULL, vmpage_size(page), PROT_READ, MAP_SHARED, page_fd, 0);

	ck_assert_ptr_ne(map, MAP_FAILED);
	ck_assert_int_eq(cpupolicy_page_check(map, vmpage_size(page), 6), 0);
	ck_assert_uint_eq(cpupolicy_page_ask_timeout_ms(map), 1500);
	for (uint32_t i = 0; i < 6; i++)
		ck_assert_uint_eq(cpupolicy_page_load_word(map, i), 0);
	ck_assert_uint_eq(cpupolicy_page_load_head(map), 0);
	vmpage_set_word(page, 5, UINT64_C(0x0000000700000b07));
	vmpage_publish(page, 3, 9);
	ck_assert_uint_eq(cpupolicy_page_load_word(map, 5), UINT64_C(0x0000000700000b07));
	ck_assert_uint_eq(cpupolicy_page_load_word(map, 4), 0);
	ck_assert_uint_eq(cpupolicy_page_epoch(cpupolicy_page_load_head(map)), 3);
	ck_assert_uint_eq(cpupolicy_page_generation(cpupolicy_page_load_head(map)), 9);
	munmap(map, vmpage_size(page));
}
END_TEST

START_TEST(vmm_cannot_write_or_resize_it)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct stat st;

	ck_assert_int_eq(fcntl(page_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_ptr_eq(mmap(NULL, vmpage_size(page), PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0), MAP_FAILED);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_lt(ftruncate(page_fd, 0), 0);
	ck_assert_int_eq(fcntl(page_fd, F_GET_SEALS), seals);
	ck_assert_int_eq(fstat(page_fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_uint_eq(fcntl(page_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}
END_TEST

START_TEST(descriptors_are_given_once)
{
	int a = -5, b = -6;

	ck_assert_int_eq(vmpage_take_descriptors(page, &a, &b), -EALREADY);
	ck_assert_int_eq(a, -5);
	ck_assert_int_eq(b, -6);
}
END_TEST

START_TEST(page_outlives_the_daemon)
{
	struct cpupolicy_page *map = mmap(NULL, vmpage_size(page), PROT_READ, MAP_SHARED, page_fd, 0);

	vmpage_set_word(page, 1, 7);
	page = vmpage_free(page);
	ck_assert_uint_eq(cpupolicy_page_load_word(map, 1), 7);
	munmap(map, (size_t)sysconf(_SC_PAGESIZE));
}
END_TEST

static bool rings(void)
{
	struct pollfd p = {.fd = bell, .events = POLLIN};

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

START_TEST(doorbell_rings)
{
	char bytes[16];

	ck_assert(!rings());
	vmpage_ring(page);
	vmpage_ring(page);
	ck_assert(rings());
	ck_assert_int_eq(recv(bell, bytes, sizeof(bytes), 0), 2);
	ck_assert(!rings());
}
END_TEST

/* The test's own alarm ends it if a ring blocks. */
START_TEST(full_doorbell_does_not_block)
{
	int flags = fcntl(bell, F_GETFL);

	/* what a hostile VMM may do: the descriptor's flags are its own */
	ck_assert_int_eq(fcntl(bell, F_SETFL, flags & ~O_NONBLOCK), 0);
	for (int i = 0; i < 1000000; i++)
		vmpage_ring(page);
	ck_assert(rings());
}
END_TEST

START_TEST(closed_doorbell_is_harmless)
{
	close(bell);
	bell = -1;
	vmpage_ring(page);
	vmpage_ring(page);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vmpage");
	TCase *tc = tcase_create("vmpage");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, count_of_vcpus_is_bounded);
	tcase_add_test(tc, what_is_published_is_seen);
	tcase_add_test(tc, vmm_cannot_write_or_resize_it);
	tcase_add_test(tc, descriptors_are_given_once);
	tcase_add_test(tc, page_outlives_the_daemon);
	tcase_add_test(tc, doorbell_rings);
	tcase_add_test(tc, full_doorbell_does_not_block);
	tcase_add_test(tc, closed_doorbell_is_harmless);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
