/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The stream: how bytes become messages, and every bound of a session. */

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/util.h"
#include "tests/unit/rig.h"

static struct rig rig;

static void setup(void)
{
	rig_open(&rig);
	rig_start(&rig);
}

static void teardown(void)
{
	rig_close(&rig);
}

/* Another VM that must not notice what happens to the first. */
static void check_undisturbed(struct vmm *other)
{
	ck_assert_int_eq(vmm_ask(other, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	ck_assert_int_eq(vmm_ask(other, 5).psci, CPUPOLICY_PSCI_DENIED);
}

static size_t ask_bytes(uint8_t *wire, uint32_t seq, uint32_t vcpu)
{
	struct cpupolicy_header header = {.request = CPUPOLICY_ASK, .size = sizeof(struct cpupolicy_ask), .seq = seq};
	struct cpupolicy_ask ask = {.vcpu = vcpu, .function = CPUPOLICY_PSCI_CPU_ON_64};

	return cpupolicy_msg_encode(&header, &ask, wire);
}

/* ---- framing ---- */

START_TEST(byte_by_byte)
{
	struct vmm v;
	uint8_t wire[64];
	size_t n;

	vmm_start(&v, &rig, 1);
	n = ask_bytes(wire, 77, 1);
	for (size_t i = 0; i < n; i++) {
		ck_assert(!vmm_has_input(&v));
		vmm_send_bytes(&v, wire + i, 1);
	}
	vmm_receive(&v);
	ck_assert_uint_eq(v.header.seq, 77);
	ck_assert_int_eq(v.reply.verdict.psci, CPUPOLICY_PSCI_SUCCESS);
	vmm_close(&v);
}
END_TEST

START_TEST(largest_message_in_two_pieces)
{
	struct vmm v;

	vmm_connect(&v, &rig, 1);
	v.possible = CPUPOLICY_MAX_VCPUS;
	vmm_hello(&v);
	vmm_register(&v);
	ck_assert_uint_eq(v.enabled, 4);
	/* and a STATE of that size, cut after every so many bytes */
	for (size_t cut = 1; cut < 8200; cut += 1021) {
		static uint8_t wire[CPUPOLICY_MSG_MAX_REQUEST];
		static struct {
			struct cpupolicy_state head;
			struct cpupolicy_vcpu vcpus[CPUPOLICY_MAX_VCPUS];
		} m;
		struct cpupolicy_header header = {.request = CPUPOLICY_STATE,
						  .flags = CPUPOLICY_HDR_NEED_REPLY,
						  .size = sizeof(m),
						  .seq = (uint32_t)cut};
		size_t n;

		m.head = (struct cpupolicy_state){CPUPOLICY_MAX_VCPUS, CPUPOLICY_RUN_RUNNING};
		for (uint32_t i = 0; i < CPUPOLICY_MAX_VCPUS; i++)
			m.vcpus[i] = (struct cpupolicy_vcpu){.mpidr = i, .flags = i == 0};
		n = cpupolicy_msg_encode(&header, &m, wire);
		vmm_send_bytes(&v, wire, cut);
		ck_assert(!vmm_has_input(&v));
		vmm_send_bytes(&v, wire + cut, n - cut);
		vmm_receive(&v);
		ck_assert_uint_eq(v.header.seq, cut);
	}
	vmm_close(&v);
}
END_TEST

/* More than one turn takes, in one write: every one is answered, in order. */
START_TEST(coalesced)
{
	enum { ASKS = 6000 };
	static uint8_t wire[ASKS * 32];
	struct vmm v;
	size_t n = 0;

	vmm_start(&v, &rig, 1);
	for (uint32_t i = 0; i < ASKS; i++)
		n += ask_bytes(wire + n, i, i % 6);
	for (size_t at = 0; at < n; at += n / 3 + 7)
		vmm_send_bytes(&v, wire + at, n - at < n / 3 + 7 ? n - at : n / 3 + 7);
	for (uint32_t i = 0; i < ASKS; i++) {
		vmm_receive(&v);
		ck_assert_uint_eq(v.header.seq, i);
		ck_assert_int_eq(v.reply.verdict.psci, i % 6 < 4 ? CPUPOLICY_PSCI_SUCCESS : CPUPOLICY_PSCI_DENIED);
	}
	ck_assert(!vmm_has_input(&v));
	vmm_close(&v);
}
END_TEST

/* A registration waits for the disk; what the VMM sends meanwhile waits with it. */
START_TEST(sent_before_the_reply)
{
	struct vmm v;
	uint8_t wire[64];
	uint32_t seq;

	vmm_connect(&v, &rig, 1);
	vmm_hello(&v);
	seq = vmm_send_register(&v);
	vmm_send_bytes(&v, wire, ask_bytes(wire, 1000, 1));
	vmm_send_bytes(&v, wire, ask_bytes(wire, 1001, 5));
	vmm_receive(&v);
	ck_assert_uint_eq(v.header.seq, seq);
	vmm_receive(&v);
	ck_assert_uint_eq(v.header.seq, 1000);
	ck_assert_int_eq(v.reply.verdict.psci, CPUPOLICY_PSCI_SUCCESS);
	vmm_receive(&v);
	ck_assert_uint_eq(v.header.seq, 1001);
	ck_assert_int_eq(v.reply.verdict.psci, CPUPOLICY_PSCI_DENIED);
	vmm_close(&v);
}
END_TEST

START_TEST(replies_only_where_due)
{
	struct cpupolicy_power power = {1, CPUPOLICY_POWER_ON, CPUPOLICY_REASON_GRANTED, 1};
	struct vmm v;

	vmm_start(&v, &rig, 1);
	vmm_send(&v, CPUPOLICY_POWER, 0, &power, sizeof(power));
	ck_assert(!vmm_has_input(&v));
	vmm_send(&v, CPUPOLICY_POWER, CPUPOLICY_HDR_NEED_REPLY, &power, sizeof(power));
	vmm_receive(&v);
	ck_assert_uint_eq(v.header.request, CPUPOLICY_POWER);
	ck_assert_uint_eq(v.header.size, 0);
	vmm_close(&v);
}
END_TEST

/* ---- what ends a session ---- */

START_TEST(end_in_mid_message)
{
	struct vmm v;
	uint8_t wire[64];

	vmm_start(&v, &rig, 1);
	vmm_send_bytes(&v, wire, ask_bytes(wire, 1, 1) - 1);
	shutdown(v.fd, SHUT_WR);
	vmm_expect_end(&v);
	ck_assert_int_eq(host_vm_core(host_find(rig.host, "vm1"))->link, VM_DISCONNECTED);
	vmm_close(&v);
}
END_TEST

static void check_header_refused(struct vmm *v, uint32_t request, uint32_t flags, uint32_t size)
{
	const uint32_t header[4] = {htole32(request), htole32(flags), htole32(size), htole32(99)};

	vmm_send_bytes(v, header, sizeof(header));
	vmm_expect_error(v, CPUPOLICY_ERROR_PROTOCOL);
	ck_assert_uint_eq(v->header.seq, 99);
	vmm_expect_end(v);
	vmm_close(v);
}

START_TEST(bad_headers)
{
	static const uint32_t headers[][3] = {
		{0, 1, 0},
		{CPUPOLICY_REQUEST_MAX + 1, 1, 0},
		{CPUPOLICY_ASK, 0, 16},
		{CPUPOLICY_ASK, 2, 16},
		{CPUPOLICY_ASK, 0x25, 16},
		{CPUPOLICY_ASK, 1 | CPUPOLICY_HDR_REPLY, 16},
		{CPUPOLICY_ASK, 1, 15},
		{CPUPOLICY_ASK, 1, 17},
		{CPUPOLICY_STATE, 1, 8 + 16 * (CPUPOLICY_MAX_VCPUS + 1)},
		{CPUPOLICY_STATE, 1, UINT32_MAX},
		{CPUPOLICY_REGISTER, 1, 320},
	};
	struct vmm v, other;

	vmm_start(&other, &rig, 2);
	vmm_connect(&v, &rig, 1);
	vmm_hello(&v);
	vmm_register(&v);
	check_header_refused(&v, headers[_i][0], headers[_i][1], headers[_i][2]);
	check_undisturbed(&other);
	vmm_close(&other);
}
END_TEST

/* Every request in every state: legal ones are not refused for their header, illegal ones end the session. */
START_TEST(every_state)
{
	for (uint32_t request = 1; request <= CPUPOLICY_REQUEST_MAX; request++) {
		const struct cpupolicy_msg_row *row = cpupolicy_msg_row(request);
		struct vmm v;

		for (int state = CPUPOLICY_MSG_GREETING; state <= CPUPOLICY_MSG_REGISTERED; state++) {
			vmm_connect(&v, &rig, (uint8_t)(request * 3 + (uint32_t)state));
			if (state > CPUPOLICY_MSG_GREETING)
				vmm_hello(&v);
			if (state > CPUPOLICY_MSG_GREETED)
				vmm_register(&v);
			if (row->states & 1u << state) {
				const uint32_t header[4] = {htole32(request), htole32(1),
							    htole32(row->size + row->stride), 0};

				vmm_send_bytes(&v, header, sizeof(header));
				ck_assert(!vmm_has_input(&v)); /* the payload is awaited */
				vmm_close(&v);
				rig_until(&rig, !v.end->session);
			} else {
				check_header_refused(&v, request, 1, row->size + row->stride);
			}
		}
	}
}
END_TEST

START_TEST(bad_index)
{
	struct cpupolicy_ask ask = {.vcpu = 6, .function = CPUPOLICY_PSCI_CPU_ON_64};
	struct vmm v, other;

	vmm_start(&other, &rig, 2);
	vmm_start(&v, &rig, 1);
	ask.vcpu = 5;
	vmm_do(&v, CPUPOLICY_ASK, &ask, sizeof(ask));
	ask.vcpu = 6;
	vmm_send(&v, CPUPOLICY_ASK, 0, &ask, sizeof(ask));
	vmm_expect_error(&v, CPUPOLICY_ERROR_PROTOCOL);
	vmm_expect_end(&v);
	check_undisturbed(&other);
	vmm_close(&v);
	vmm_close(&other);
}
END_TEST

START_TEST(unsupported_function_is_no_crime)
{
	struct cpupolicy_ask ask = {.vcpu = 1, .function = CPUPOLICY_PSCI_CPU_OFF};
	struct vmm v;

	vmm_start(&v, &rig, 1);
	vmm_send(&v, CPUPOLICY_ASK, 0, &ask, sizeof(ask));
	vmm_expect_error(&v, CPUPOLICY_ERROR_UNSUPPORTED);
	ck_assert_int_eq(vmm_ask(&v, 1).psci, CPUPOLICY_PSCI_SUCCESS);
	vmm_close(&v);
}
END_TEST

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

START_TEST(descriptors_where_none_belong)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = {0};
	uint8_t wire[64];
	struct iovec iov = {.iov_base = wire};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = 0};
	struct cmsghdr *c;
	struct vmm v, other;
	unsigned before;
	int fds[8];

	vmm_start(&other, &rig, 2);
	vmm_start(&v, &rig, 1);
	iov.iov_len = ask_bytes(wire, 5, 1);
	message.msg_controllen = sizeof(control.bytes);
	c = CMSG_FIRSTHDR(&message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	for (int i = 0; i < 8; i++)
		fds[i] = v.doorbell;
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	before = count_fds();
	ck_assert_int_eq(sendmsg(v.fd, &message, 0), (ssize_t)iov.iov_len);
	vmm_expect_error(&v, CPUPOLICY_ERROR_PROTOCOL);
	ck_assert_uint_eq(v.header.seq, 5);
	vmm_expect_end(&v);
	ck_assert_uint_lt(count_fds(), before); /* its own were closed, none came */
	check_undisturbed(&other);
	vmm_close(&v);
	vmm_close(&other);
}
END_TEST

START_TEST(unregister_is_answered_then_hung_up)
{
	struct cpupolicy_unregister m = {.cause = CPUPOLICY_UNREGISTER_SHUTDOWN};
	uint8_t wire[64];
	struct vmm v;
	uint32_t seq;

	vmm_start(&v, &rig, 1);
	seq = vmm_send(&v, CPUPOLICY_UNREGISTER, CPUPOLICY_HDR_NEED_REPLY, &m, sizeof(m));
	vmm_send_bytes(&v, wire, ask_bytes(wire, 500, 1)); /* nobody is there to read it */
	vmm_receive(&v);
	ck_assert_uint_eq(v.header.seq, seq);
	vmm_expect_end(&v);
	ck_assert_ptr_null(host_find(rig.host, "vm1"));
	ck_assert_uint_eq(rig.removed, 1);
	vmm_close(&v);
}
END_TEST

/* ---- bounds ---- */

START_TEST(attempts_to_register)
{
	struct vmm v, other;

	vmm_start(&other, &rig, 2);
	vmm_connect(&v, &rig, 1);
	vmm_hello(&v);
	strcpy(v.name, "vm2");
	for (int i = 0; i < 7; i++) {
		vmm_send_register(&v);
		vmm_expect_error(&v, CPUPOLICY_ERROR_IDENTITY);
	}
	/* The connection is still good for a claim that is. */
	strcpy(v.name, "vm1");
	vmm_register(&v);
	vmm_close(&v);
	vmm_connect(&v, &rig, 3);
	vmm_hello(&v);
	strcpy(v.name, "vm2");
	for (int i = 0; i < 8; i++) {
		vmm_send_register(&v);
		vmm_expect_error(&v, CPUPOLICY_ERROR_IDENTITY);
	}
	vmm_expect_end(&v);
	check_undisturbed(&other);
	vmm_close(&v);
	vmm_close(&other);
}
END_TEST

START_TEST(identity_nobody_may_claim)
{
	struct vmm v;

	vmm_connect(&v, &rig, 0); /* the null UUID */
	vmm_hello(&v);
	vmm_send_register(&v);
	vmm_expect_error(&v, CPUPOLICY_ERROR_IDENTITY);
	memset(v.uuid, 1, sizeof(v.uuid));
	strcpy(v.name, "01010101-0101-0101-0101-010101010101");
	vmm_send_register(&v);
	vmm_expect_error(&v, CPUPOLICY_ERROR_IDENTITY);
	strncpy(v.name, "fine", sizeof(v.name));
	vmm_register(&v);
	vmm_close(&v);
}
END_TEST

/* Asks over the rate are denied at once, and recorded. */
START_TEST(rate_of_asks)
{
	uint8_t wire[64];
	unsigned allowed = 0, overload = 0, recorded = 0;
	struct vmm v;

	rig.config->messages = (struct rate_limit){.per_second = 1, .burst = 10};
	vmm_start(&v, &rig, 1); /* takes three of them */
	for (uint32_t i = 0; i < 50; i++)
		vmm_send_bytes(&v, wire, ask_bytes(wire, i, 1));
	for (uint32_t i = 0; i < 50; i++) {
		vmm_receive(&v);
		ck_assert_uint_eq(v.header.seq, i);
		if (v.reply.verdict.psci == CPUPOLICY_PSCI_SUCCESS) {
			allowed++;
		} else {
			ck_assert_uint_eq(v.reply.verdict.reason, CPUPOLICY_REASON_OVERLOAD);
			overload++;
		}
	}
	ck_assert_uint_ge(allowed, 7);
	ck_assert_uint_lt(allowed, 7 + 10); /* one more for each second it took */
	ck_assert_uint_eq(allowed + overload, 50);
	rig_until(&rig, rig.denied > 0);
	for (unsigned i = 0; i < rig.denied; i++)
		recorded += rig.denials[i].count;
	ck_assert_uint_eq(recorded, overload);
	ck_assert_uint_eq(host_vm_core(host_find(rig.host, "vm1"))->denied, overload);
	vmm_close(&v);
}
END_TEST

/* Other messages over the rate are read later, none is lost and none overtaken. */
START_TEST(rate_of_events)
{
	struct cpupolicy_power power = {1, CPUPOLICY_POWER_ON, CPUPOLICY_REASON_GRANTED, 1};
	uint64_t since;
	struct vmm v, other;

	rig.config->messages = (struct rate_limit){.per_second = 50, .burst = 5};
	vmm_start(&v, &rig, 1);
	since = rig_clock();
	v.seq = 0;
	for (uint32_t i = 0; i < 25; i++) {
		power.event = i % 2 ? CPUPOLICY_POWER_OFF : CPUPOLICY_POWER_ON;
		power.reason = i % 2 ? CPUPOLICY_REASON_NONE : CPUPOLICY_REASON_GRANTED;
		vmm_send(&v, CPUPOLICY_POWER, CPUPOLICY_HDR_NEED_REPLY, &power, sizeof(power));
	}
	vmm_start(&other, &rig, 2); /* not held up by it */
	ck_assert(other.end->registered);
	for (uint32_t i = 1; i <= 25; i++) {
		vmm_receive(&v);
		ck_assert_uint_eq(v.header.seq, i);
	}
	/* 25 of them, less the burst, at 50 per second */
	ck_assert_uint_ge(rig_clock() - since, UINT64_C(380000000));
	ck_assert(host_vm_core(host_find(rig.host, "vm1"))->vcpus[1].flags & VCPU_ONLINE);
	vmm_close(&v);
	vmm_close(&other);
}
END_TEST

/* Sends asks and reads nothing until hung up on. */
START_TEST(peer_that_does_not_read)
{
	static uint8_t wire[512 * 32];
	struct vmm v, other;
	size_t n = 0, sent = 0;

	vmm_start(&other, &rig, 2);
	vmm_start(&v, &rig, 1);
	for (uint32_t i = 0; i < 512; i++)
		n += ask_bytes(wire + n, i, 1);
	while (v.end->session) {
		ssize_t r = send(v.fd, wire, n, MSG_NOSIGNAL);

		if (r > 0)
			sent += (size_t)r;
		ck_assert_uint_lt(sent, 64u << 20);
		rig_turn(&rig);
	}
	check_undisturbed(&other);
	ck_assert_int_eq(host_vm_core(host_find(rig.host, "vm1"))->link, VM_DISCONNECTED);
	vmm_close(&v);
	vmm_close(&other);
}
END_TEST

/* A slow reader that does read gets everything, through the queue. */
START_TEST(slow_reader_gets_it_all)
{
	enum { ASKS = 20000 };
	const int size = 4096;
	uint8_t wire[64];
	struct vmm v;
	uint32_t next = 0;

	vmm_start(&v, &rig, 1);
	setsockopt(v.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (uint32_t i = 0; i < ASKS; i++) {
		vmm_send_bytes(&v, wire, ask_bytes(wire, i, 1));
		/* behind by up to 3000 replies: what the socket takes, and the better part of the queue */
		if (i % 1000 == 999) {
			rig_turn(&rig);
			while (next + 2000 < i) {
				vmm_receive(&v);
				ck_assert_uint_eq(v.header.seq, next++);
			}
		}
	}
	while (next < ASKS) {
		vmm_receive(&v);
		ck_assert_uint_eq(v.header.seq, next++);
	}
	vmm_close(&v);
}
END_TEST

/* One turn of the loop, and who asks beside a flood has its answer. */
START_TEST(flood_does_not_starve)
{
	static uint8_t wire[512 * 32];
	struct vmm v, other;
	uint64_t handled;
	size_t n = 0;

	vmm_start(&v, &rig, 1);
	vmm_start(&other, &rig, 2);
	for (uint32_t i = 0; i < 512; i++)
		n += ask_bytes(wire + n, i, 5);
	while (send(v.fd, wire, n, MSG_NOSIGNAL) > 0)
		; /* all that the socket takes */
	vmm_send_bytes(&other, wire, ask_bytes(wire, 9, 1));
	rig_turn(&rig);
	ck_assert_int_gt(recv(other.fd, wire, sizeof(wire), MSG_DONTWAIT), 0);
	/* and the flood's own turn was bounded: 4 times 16 KiB */
	handled = host_vm_core(host_find(rig.host, "vm1"))->denied;
	ck_assert_uint_gt(handled, 0);
	ck_assert_uint_le(handled, 4 * 16384 / 32);
	vmm_close(&v);
	vmm_close(&other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("session");
	TCase *tc = tcase_create("session");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, byte_by_byte);
	tcase_add_test(tc, largest_message_in_two_pieces);
	tcase_add_test(tc, coalesced);
	tcase_add_test(tc, sent_before_the_reply);
	tcase_add_test(tc, replies_only_where_due);
	tcase_add_test(tc, end_in_mid_message);
	tcase_add_loop_test(tc, bad_headers, 0, 11);
	tcase_add_test(tc, every_state);
	tcase_add_test(tc, bad_index);
	tcase_add_test(tc, unsupported_function_is_no_crime);
	tcase_add_test(tc, descriptors_where_none_belong);
	tcase_add_test(tc, unregister_is_answered_then_hung_up);
	tcase_add_test(tc, attempts_to_register);
	tcase_add_test(tc, identity_nobody_may_claim);
	tcase_add_test(tc, rate_of_asks);
	tcase_add_test(tc, rate_of_events);
	tcase_add_test(tc, peer_that_does_not_read);
	tcase_add_test(tc, slow_reader_gets_it_all);
	tcase_add_test(tc, flood_does_not_starve);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
