/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What a peer may send, both ways: requests to the codec in each state of a session, replies to the codec, and what a
 * daemon sends to libcpupolicy at each stage of the handshake.
 *
 * Input: one byte that says which (enum what, modulo their number), one of options, then bytes as on the wire.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "proto/libcpupolicy.h"
#include "proto/message.h"
#include "proto/page.h"

enum what {
	REQUEST_GREETING,
	REQUEST_GREETED,
	REQUEST_REGISTERED,
	REPLY,
	LIBRARY_GREETING,
	LIBRARY_REGISTERING,
	LIBRARY_REGISTERED,
	WHATS,
};

#define OPTION_ASK      0x1 /* the features agreed on */
#define OPTION_INCOMING 0x2
#define OPTION_SEQ      0x4 /* the first reply to the library gets the sequence number that it waits for */
#define OPTION_FDS      0x8 /* a page and a doorbell go with it */
#define OPTION_BYTEWISE 0x10
#define OPTION_LARGE    0x20 /* 512 vCPUs */

#define VCPUS 3u
#define EPOCH 7u

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* ---- the codec ---- */

/* What is accepted is what encoding it again gives. */
static void fuzz_request(enum cpupolicy_msg_state state, uint8_t options, const uint8_t *data, size_t size)
{
	struct cpupolicy_msg_context context = {
		.features = options & (OPTION_ASK | OPTION_INCOMING),
		.max_vcpus = CPUPOLICY_MAX_VCPUS,
		.possible = options & OPTION_LARGE ? CPUPOLICY_MAX_VCPUS : VCPUS,
	};
	static union cpupolicy_msg_payload payload;
	static uint8_t again[CPUPOLICY_MSG_MAX_REQUEST];
	struct cpupolicy_header header;
	const char *why = NULL;

	if (size < CPUPOLICY_MSG_HEADER_SIZE)
		return;
	if (cpupolicy_msg_check_header(data, state, &header, &why) < 0) {
		must(why);
		return;
	}
	must(header.size <= CPUPOLICY_MAX_PAYLOAD);
	if (header.size > size - CPUPOLICY_MSG_HEADER_SIZE)
		return;
	cpupolicy_msg_decode(&header, data + CPUPOLICY_MSG_HEADER_SIZE, &payload);
	if (cpupolicy_msg_check_payload(&header, &payload, &context, &why) < 0) {
		must(why);
		return;
	}
	size = cpupolicy_msg_encode(&header, &payload, again);
	must(memcmp(again, data, size) == 0);
}

static void fuzz_reply(uint8_t options, const uint8_t *data, size_t size)
{
	struct cpupolicy_msg_context context = {
		.features = options & (OPTION_ASK | OPTION_INCOMING),
		.possible = VCPUS,
	};
	uint8_t again[CPUPOLICY_MSG_MAX_REPLY];
	union cpupolicy_msg_reply reply;
	struct cpupolicy_header header;
	const char *why = NULL;

	if (size < CPUPOLICY_MSG_HEADER_SIZE)
		return;
	if (cpupolicy_msg_check_reply_header(data, &header, &why) < 0) {
		must(why);
		return;
	}
	must(header.size <= sizeof(reply));
	if (header.size > size - CPUPOLICY_MSG_HEADER_SIZE)
		return;
	cpupolicy_msg_decode_reply(&header, data + CPUPOLICY_MSG_HEADER_SIZE, &reply);
	if (cpupolicy_msg_check_reply(&header, &reply, &context, &why) < 0) {
		must(why);
		return;
	}
	if (header.flags & CPUPOLICY_HDR_ERROR)
		size = cpupolicy_msg_encode_error(&header, reply.error.code, reply.error.message, again);
	else
		size = cpupolicy_msg_encode_reply(&header, &reply, again);
	must(memcmp(again, data, size) == 0);
}

/* ---- the library ---- */

static void policy_changed(void *opaque)
{
	struct cpupolicy **c = opaque;

	cpupolicy_confirm(*c);
}

static void verdict(void *opaque, uint32_t caller, uint32_t target, const struct cpupolicy_verdict *v)
{
	must(caller < VCPUS && target < VCPUS);
	must(v->psci == CPUPOLICY_PSCI_SUCCESS || v->psci == CPUPOLICY_PSCI_DENIED);
	must(v->reason != CPUPOLICY_REASON_NONE && v->reason <= CPUPOLICY_REASON_MAX);
}

static enum cpupolicy_run_state get_state(void *opaque, struct cpupolicy_vcpu *vcpus, uint32_t n)
{
	return CPUPOLICY_RUN_RUNNING;
}

static struct cpupolicy *new_library(struct cpupolicy **opaque)
{
	static const struct cpupolicy_ops ops = {
		.policy_changed = policy_changed,
		.verdict = verdict,
		.get_state = get_state,
	};
	static const uint64_t mpidrs[VCPUS] = {0, 1, 2};
	static const struct cpupolicy_identity identity = {
		.uuid = {1},
		.name = "vm",
		.possible = VCPUS,
		.boot = 1,
		.mpidrs = mpidrs,
	};

	must(cpupolicy_new(opaque, &identity, &ops, opaque) == 0);
	return *opaque;
}

/* vCPU 1 is to be asked for, vCPU 2 is denied. */
static int make_page(void)
{
	struct cpupolicy_page_word ask = {.enabled = true, .wanted = true, .verdict = CPUPOLICY_VERDICT_ASK};
	int fd = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct cpupolicy_page *page;

	must(fd >= 0);
	must(ftruncate(fd, 4096) == 0);
	must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(page != MAP_FAILED);
	cpupolicy_page_init(page, VCPUS, 60000);
	cpupolicy_page_store_word(page, 1, cpupolicy_page_make_word(&ask));
	cpupolicy_page_store_head(page, cpupolicy_page_make_head(EPOCH, 1));
	munmap(page, 4096);
	return fd;
}

static void send_with_fds(int fd, const uint8_t *bytes, size_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = n};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	static int far = -1;
	int pair[2], fds[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	fds[0] = make_page();
	fds[1] = pair[1];
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&control.align), fds, sizeof(fds));
	if (n > 0)
		must(sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n);
	close(fds[0]);
	close(fds[1]);
	/* The far end stays open until the next one: a doorbell that nobody rings. */
	if (far >= 0)
		close(far);
	far = pair[0];
}

/* What the library has sent, without waiting; the last header of it. */
static struct cpupolicy_header read_request(int fd)
{
	uint8_t wire[CPUPOLICY_MSG_MAX_REQUEST];
	struct cpupolicy_header header = {0};
	ssize_t n = recv(fd, wire, sizeof(wire), MSG_DONTWAIT);

	if (n >= (ssize_t)CPUPOLICY_MSG_HEADER_SIZE)
		cpupolicy_msg_decode_header(wire, &header);
	return header;
}

static void greet(struct cpupolicy *c, int fd, uint64_t features)
{
	struct cpupolicy_hello_reply reply = {.features = features, .max_vcpus = CPUPOLICY_MAX_VCPUS};
	struct cpupolicy_header request = read_request(fd);
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];
	size_t n = cpupolicy_msg_encode_reply(&request, &reply, wire);

	must(send(fd, wire, n, MSG_NOSIGNAL) == (ssize_t)n);
	must(cpupolicy_dispatch(c) == 0);
}

static struct cpupolicy_header admit(struct cpupolicy *c, int fd)
{
	struct cpupolicy_register_reply reply = {.token = {1}, .epoch = EPOCH, .possible = VCPUS, .page_size = 4096};
	struct cpupolicy_header request = read_request(fd);
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];
	enum cpupolicy_reason reason;

	send_with_fds(fd, wire, cpupolicy_msg_encode_reply(&request, &reply, wire));
	must(cpupolicy_dispatch(c) == 0);
	must(cpupolicy_link(c) == CPUPOLICY_LINK_REGISTERED);
	read_request(fd);
	cpupolicy_cpu_on(c, 0, 1, CPUPOLICY_PSCI_CPU_ON_64, &reason);
	return read_request(fd);
}

static void feed(struct cpupolicy *c, int fd, uint8_t options, const uint8_t *data, size_t size)
{
	size_t step = options & OPTION_BYTEWISE ? 1 : size;

	if (options & OPTION_FDS) {
		send_with_fds(fd, data, size);
		must(cpupolicy_dispatch(c) == 0);
		return;
	}
	for (size_t at = 0; at < size; at += step) {
		if (send(fd, data + at, step, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break; /* hung up, as it may */
		must(cpupolicy_dispatch(c) == 0);
	}
}

static void fuzz_library(enum what what, uint8_t options, const uint8_t *data, size_t size)
{
	struct cpupolicy *opaque, *c = new_library(&opaque);
	struct cpupolicy_header request;
	uint8_t input[4096];
	enum cpupolicy_reason reason;
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	must(cpupolicy_start_fd(c, pair[1]) == 0);
	must(cpupolicy_dispatch(c) == 0);
	if (what != LIBRARY_GREETING)
		greet(c, pair[0], options & (OPTION_ASK | OPTION_INCOMING));
	request = what == LIBRARY_REGISTERED ? admit(c, pair[0]) : read_request(pair[0]);

	if (size > sizeof(input))
		size = sizeof(input);
	memcpy(input, data, size);
	if ((options & OPTION_SEQ) && size >= CPUPOLICY_MSG_HEADER_SIZE) {
		uint32_t seq = htole32(request.seq);

		memcpy(input + 12, &seq, sizeof(seq));
	}
	feed(c, pair[0], options, input, size);

	/* Whatever a daemon says, what the page denies stays denied. */
	must(cpupolicy_cpu_on(c, 0, 2, CPUPOLICY_PSCI_CPU_ON_64, &reason) == CPUPOLICY_ANSWER_DENY);
	must(!cpupolicy_power_on(c, 2, CPUPOLICY_REASON_GRANTED));
	close(pair[0]);
	must(cpupolicy_dispatch(c) == 0);
	cpupolicy_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum what what;
	uint8_t options;

	if (size < 2)
		return 0;
	what = (enum what)(data[0] % WHATS);
	options = data[1];
	data += 2;
	size -= 2;
	if (what <= REQUEST_REGISTERED)
		fuzz_request((enum cpupolicy_msg_state)what, options, data, size);
	else if (what == REPLY)
		fuzz_reply(options, data, size);
	else
		fuzz_library(what, options, data, size);
	return 0;
}
