/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * libcpupolicy and a daemon that does not keep to the protocol: at each stage, everything that it may send and must not.
 */

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fakedaemon.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static struct fake fake, *const f = &fake;

static void setup(void)
{
	fake_open(f, FAKE_VCPUS);
}

static void teardown(void)
{
	fake_close(f);
}

static enum cpupolicy_answer cpu_on(uint32_t target)
{
	enum cpupolicy_reason reason;

	return cpupolicy_cpu_on(f->c, 0, target, CPUPOLICY_PSCI_CPU_ON_64, &reason);
}

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

enum at { AT_HELLO, AT_REGISTER, AT_REGISTERED };

/* Each sends something wrong. */
static void send_reply_to(uint32_t request, uint32_t flags, const void *payload, uint32_t size, const int *fds,
			  size_t n_fds)
{
	uint8_t wire[512] = {0};
	uint32_t header[] = {htole32(request), htole32(flags), htole32(size), htole32(f->header.seq)};

	memcpy(wire, header, sizeof(header));
	if (payload)
		memcpy(wire + sizeof(header), payload, size);
	fake_send(f, wire, sizeof(header) + size, fds, n_fds);
}

static void garbage(void)
{
	uint8_t wire[64];

	memset(wire, 0xff, sizeof(wire));
	fake_send(f, wire, sizeof(wire), NULL, 0);
}

static void another_version(void)
{
	send_reply_to(f->header.request, 2 | CPUPOLICY_HDR_REPLY, NULL, 16, NULL, 0);
}

static void a_request(void)
{
	send_reply_to(CPUPOLICY_HELLO, 1, NULL, 8, NULL, 0);
}

static void a_huge_reply(void)
{
	uint32_t header[] = {htole32(f->header.request), htole32(1 | CPUPOLICY_HDR_REPLY), UINT32_MAX, 0};

	fake_send(f, header, sizeof(header), NULL, 0);
}

static void another_seq(void)
{
	struct cpupolicy_hello_reply hello = {.max_vcpus = 512};

	f->header.seq++;
	fake_reply(f, &hello);
}

static void foreign_features(void)
{
	struct cpupolicy_hello_reply hello = {.features = 0x80, .max_vcpus = 512};

	fake_reply(f, &hello);
}

static void hello_with_fds(void)
{
	struct cpupolicy_hello_reply hello = {.max_vcpus = 512};
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];

	fake_send(f, wire, cpupolicy_msg_encode_reply(&f->header, &hello, wire), &f->memfd, 1);
}

static void an_error_without_end(void)
{
	uint8_t error[248];

	memset(error, 'x', sizeof(error));
	memcpy(error, (uint32_t[]){htole32(CPUPOLICY_ERROR_BUSY), 0}, 8);
	send_reply_to(f->header.request, 1 | CPUPOLICY_HDR_REPLY | CPUPOLICY_HDR_ERROR, error, sizeof(error), NULL, 0);
}

static void register_with(const int *fds, size_t n_fds, uint32_t page_size, uint32_t epoch)
{
	struct cpupolicy_register_reply reply = {
		.token = {'t'},
		.epoch = epoch,
		.possible = FAKE_VCPUS,
		.page_size = page_size,
	};
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];

	fake_send(f, wire, cpupolicy_msg_encode_reply(&f->header, &reply, wire), fds, n_fds);
}

static void no_fds(void)
{
	register_with(NULL, 0, (uint32_t)f->page_size, FAKE_EPOCH);
}

static void one_fd(void)
{
	register_with(&f->memfd, 1, (uint32_t)f->page_size, FAKE_EPOCH);
}

static void three_fds(void)
{
	int fds[] = {f->memfd, f->listener, f->memfd};

	register_with(fds, 3, (uint32_t)f->page_size, FAKE_EPOCH);
}

static void a_dozen_fds(void)
{
	int fds[12];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = f->memfd;
	register_with(fds, ARRAY_SIZE(fds), (uint32_t)f->page_size, FAKE_EPOCH);
}

static void swapped_fds(void)
{
	int fds[] = {f->listener, f->memfd};

	register_with(fds, 2, (uint32_t)f->page_size, FAKE_EPOCH);
}

static void a_page_that_is_a_socket(void)
{
	int fds[] = {f->listener, f->listener};

	register_with(fds, 2, (uint32_t)f->page_size, FAKE_EPOCH);
}

static void register_with_page(int page)
{
	int fds[] = {page, f->listener};

	register_with(fds, 2, (uint32_t)f->page_size, FAKE_EPOCH);
}

static void a_page_of_another_size(void)
{
	int fds[] = {f->memfd, f->listener};

	register_with(fds, 2, (uint32_t)f->page_size / 2, FAKE_EPOCH);
}

static void a_page_that_can_shrink(void)
{
	int fd = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(write(fd, f->page, f->page_size), (ssize_t)f->page_size);
	register_with_page(fd);
	close(fd);
}

static void a_page_without_its_magic(void)
{
	f->page->magic = 0;
	register_with_page(f->memfd);
}

static void a_page_of_another_count(void)
{
	f->page->vcpus = htole32(FAKE_VCPUS + 1);
	register_with_page(f->memfd);
}

static void a_page_of_another_epoch(void)
{
	int fds[] = {f->memfd, f->listener};

	register_with(fds, 2, (uint32_t)f->page_size, FAKE_EPOCH + 1);
}

static void an_answer_to_nothing(void)
{
	struct cpupolicy_verdict granted = {CPUPOLICY_PSCI_SUCCESS, CPUPOLICY_REASON_GRANTED};

	f->header.request = CPUPOLICY_ASK;
	fake_reply(f, &granted);
}

static void a_reply_to_nothing(void)
{
	f->header.request = CPUPOLICY_POWER;
	fake_reply(f, NULL);
}

static void a_second_registration(void)
{
	struct cpupolicy_register_reply reply = {.token = {'t'}, .epoch = 9, .possible = FAKE_VCPUS, .page_size = 8192};

	f->header.request = CPUPOLICY_REGISTER;
	fake_reply(f, &reply);
}

static void fds_out_of_the_blue(void)
{
	f->header.request = CPUPOLICY_POWER;
	send_reply_to(CPUPOLICY_POWER, 1 | CPUPOLICY_HDR_REPLY | CPUPOLICY_HDR_ERROR, NULL, 248, &f->memfd, 1);
}

static const struct {
	const char *name;
	enum at at;
	void (*send)(void);
} hostilities[] = {
	{"garbage", AT_HELLO, garbage},
	{"another version", AT_HELLO, another_version},
	{"a request", AT_HELLO, a_request},
	{"a huge reply", AT_HELLO, a_huge_reply},
	{"another sequence number", AT_HELLO, another_seq},
	{"foreign features", AT_HELLO, foreign_features},
	{"descriptors with HELLO", AT_HELLO, hello_with_fds},
	{"an answer to nothing", AT_HELLO, an_answer_to_nothing},
	{"a text without end", AT_HELLO, an_error_without_end},
	{"garbage", AT_REGISTER, garbage},
	{"no descriptors", AT_REGISTER, no_fds},
	{"one descriptor", AT_REGISTER, one_fd},
	{"three descriptors", AT_REGISTER, three_fds},
	{"a dozen descriptors", AT_REGISTER, a_dozen_fds},
	{"swapped descriptors", AT_REGISTER, swapped_fds},
	{"a page that is a socket", AT_REGISTER, a_page_that_is_a_socket},
	{"a page of another size", AT_REGISTER, a_page_of_another_size},
	{"a page that can shrink", AT_REGISTER, a_page_that_can_shrink},
	{"a page without its magic", AT_REGISTER, a_page_without_its_magic},
	{"a page of another count", AT_REGISTER, a_page_of_another_count},
	{"a page of another epoch", AT_REGISTER, a_page_of_another_epoch},
	{"a reply to nothing", AT_REGISTER, a_reply_to_nothing},
	{"garbage", AT_REGISTERED, garbage},
	{"an answer to nothing", AT_REGISTERED, an_answer_to_nothing},
	{"a reply to nothing", AT_REGISTERED, a_reply_to_nothing},
	{"a second registration", AT_REGISTERED, a_second_registration},
	{"descriptors out of the blue", AT_REGISTERED, fds_out_of_the_blue},
};

START_TEST(nonsense_ends_the_session)
{
	unsigned fds = count_fds(), changes;
	bool registered = hostilities[_i].at == AT_REGISTERED;

	ck_assert_int_eq(cpupolicy_start_path(f->c, f->path), 0);
	switch (hostilities[_i].at) {
	case AT_HELLO:
		fake_accept(f);
		fake_expect(f, CPUPOLICY_HELLO);
		break;
	case AT_REGISTER:
		fake_greet(f);
		break;
	case AT_REGISTERED:
		fake_register(f);
		break;
	}
	changes = f->policy_changes;
	hostilities[_i].send();
	fake_until(f, strstr(cpupolicy_link_reason(f->c), "does not keep to the protocol"));
	ck_assert_int_eq(cpupolicy_link(f->c), CPUPOLICY_LINK_CONNECTING);
	fake_expect_end(f);
	ck_assert_uint_eq(f->policy_changes, changes);
	ck_assert_int_eq(cpu_on(3), registered ? CPUPOLICY_ANSWER_ALLOW : CPUPOLICY_ANSWER_DENY);
	ck_assert_uint_eq(count_fds(), fds);
	/* Not at once: what was wrong will be wrong again. */
	ck_assert_int_eq(cpupolicy_wait(f->c, 300), -ETIMEDOUT);
	ck_assert_int_lt(accept(f->listener, NULL, NULL), 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("libcpupolicy, hostile daemon");
	TCase *tcase = tcase_create("hostile");

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, nonsense_ends_the_session, 0, ARRAY_SIZE(hostilities));
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(make_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
