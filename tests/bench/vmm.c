/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/page.h"
#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

/* How many registrations may wait for the disk together: below the daemon's bound on connections without a VM. */
#define GROUP 32

static void send_request(int fd, uint32_t request, uint32_t flags, const void *payload, uint32_t size)
{
	struct cpupolicy_header header = {.request = request, .flags = flags, .size = size, .seq = 1};
	uint8_t wire[CPUPOLICY_MSG_MAX_REQUEST];

	bench_write_all(fd, wire, cpupolicy_msg_encode(&header, payload, wire));
}

/* The reply's payload; descriptors that come with it if `fds` has room for them. */
static void receive_reply(int fd, uint32_t request, union cpupolicy_msg_reply *ret, int fds[2])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];
	struct iovec iov = {.iov_base = wire, .iov_len = CPUPOLICY_MSG_HEADER_SIZE};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
	struct cpupolicy_header header;
	const char *why = "";
	ssize_t n;

	n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		bench_fail("no reply: %s", n < 0 ? strerror(errno) : "the daemon hung up");
	bench_read_all(fd, wire + n, CPUPOLICY_MSG_HEADER_SIZE - (size_t)n);
	if (cpupolicy_msg_check_reply_header(wire, &header, &why) < 0)
		bench_fail("bad reply: %s", why);
	bench_read_all(fd, wire + CPUPOLICY_MSG_HEADER_SIZE, header.size);
	if (header.size > 0)
		cpupolicy_msg_decode_reply(&header, wire + CPUPOLICY_MSG_HEADER_SIZE, ret);
	if (header.flags & CPUPOLICY_HDR_ERROR)
		bench_fail("the daemon refused %s: %s", cpupolicy_msg_row(header.request)->name, ret->error.message);
	if (header.request != request)
		bench_fail("a reply to another request");
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (!fds || c->cmsg_len != CMSG_LEN(2 * sizeof(int)))
			bench_fail("unexpected descriptors");
		memcpy(fds, CMSG_DATA(c), 2 * sizeof(int));
	}
}

void vmm_uuid(uint8_t ret[CPUPOLICY_UUID_SIZE])
{
	if (getrandom(ret, CPUPOLICY_UUID_SIZE, 0) != (ssize_t)CPUPOLICY_UUID_SIZE)
		bench_fail("getrandom: %s", strerror(errno));
	ret[6] = (ret[6] & 0x0f) | 0x40;
	ret[8] = (ret[8] & 0x3f) | 0x80;
}

uint64_t vmm_mpidr(uint32_t n)
{
	return (uint64_t)(n / 16) << 8 | n % 16;
}

static void send_registration(struct vmm *vmm, const char *path, uint32_t possible, uint32_t boot)
{
	struct cpupolicy_hello hello = {.features = CPUPOLICY_F_ASK};
	struct {
		struct cpupolicy_register head;
		struct cpupolicy_vcpu vcpus[CPUPOLICY_MAX_VCPUS];
	} reg = {
		.head = {.flags = CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE,
			 .possible = possible,
			 .boot = boot,
			 .run_state = CPUPOLICY_RUN_RUNNING},
		.vcpus[0] = {.flags = CPUPOLICY_VCPU_ONLINE},
	};

	vmm->possible = possible;
	vmm->fd = bench_connect(path);
	vmm_uuid(reg.head.uuid);
	memcpy(reg.head.name, vmm->name, strlen(vmm->name));
	for (uint32_t i = 0; i < possible; i++)
		reg.vcpus[i].mpidr = vmm_mpidr(i);
	send_request(vmm->fd, CPUPOLICY_HELLO, 0, &hello, sizeof(hello));
	send_request(vmm->fd, CPUPOLICY_REGISTER, 0, &reg,
		     (uint32_t)(sizeof(reg.head) + possible * sizeof(reg.vcpus[0])));
}

static void finish_registration(struct vmm *vmm)
{
	union cpupolicy_msg_reply reply;
	int fds[2] = {-1, -1};

	receive_reply(vmm->fd, CPUPOLICY_HELLO, &reply, NULL);
	receive_reply(vmm->fd, CPUPOLICY_REGISTER, &reply, fds);
	if (fds[0] < 0)
		bench_fail("the registration's reply came without descriptors");
	vmm->page = mmap(NULL, reply.reg.page_size, PROT_READ, MAP_SHARED, fds[0], 0);
	if (vmm->page == MAP_FAILED)
		bench_fail("mmap: %s", strerror(errno));
	if (cpupolicy_page_check(vmm->page, reply.reg.page_size, vmm->possible) < 0)
		bench_fail("the policy page is not one");
	close(fds[0]);
	vmm->doorbell = fds[1];
}

void vmm_start(struct vmm *vmms, size_t n, const char *path, const char *prefix, uint32_t possible, uint32_t boot)
{
	for (size_t at = 0; at < n; at += GROUP) {
		size_t end = at + GROUP < n ? at + GROUP : n;

		for (size_t i = at; i < end; i++) {
			/* the VMs of a program that has just ended may not have been missed yet */
			snprintf(vmms[i].name, sizeof(vmms[i].name), "%.8s-%d-%zu", prefix, (int)getpid(), i);
			send_registration(&vmms[i], path, possible, boot);
		}
		for (size_t i = at; i < end; i++)
			finish_registration(&vmms[i]);
	}
}

void vmm_call(struct vmm *vmm, uint32_t request, const void *payload, uint32_t size)
{
	union cpupolicy_msg_reply reply;

	send_request(vmm->fd, request, CPUPOLICY_HDR_NEED_REPLY, payload, size);
	receive_reply(vmm->fd, request, &reply, NULL);
}

void vmm_encode_ask(uint8_t ask[VMM_ASK_SIZE], uint8_t reply[VMM_REPLY_SIZE])
{
	struct cpupolicy_header header = {.request = CPUPOLICY_ASK, .size = sizeof(struct cpupolicy_ask), .seq = 1};
	struct cpupolicy_ask payload = {.vcpu = VMM_ASKED_VCPU, .function = CPUPOLICY_PSCI_CPU_ON_64};
	struct cpupolicy_verdict verdict = {.psci = CPUPOLICY_PSCI_SUCCESS, .reason = CPUPOLICY_REASON_GRANTED};

	cpupolicy_msg_encode(&header, &payload, ask);
	cpupolicy_msg_encode_reply(&header, &verdict, reply);
}
