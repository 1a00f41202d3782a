/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "fakedaemon.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_NS UINT64_C(10000000000)

/* ---- the VMM's callbacks ---- */

static void policy_changed(void *opaque)
{
	struct fake *f = opaque;

	f->policy_changes++;
	if (f->confirms)
		cpupolicy_confirm(f->c);
}

static void link_changed(void *opaque, enum cpupolicy_link link, const char *reason)
{
	struct fake *f = opaque;

	f->link_changes++;
	ck_assert_int_eq(link, cpupolicy_link(f->c));
	ck_assert_str_eq(reason, cpupolicy_link_reason(f->c));
}

static void verdict(void *opaque, uint32_t caller, uint32_t target, const struct cpupolicy_verdict *v)
{
	struct fake *f = opaque;

	ck_assert_uint_lt(f->n_verdicts, 16);
	f->verdicts[f->n_verdicts++] = (struct fake_verdict){caller, target, *v};
}

static enum cpupolicy_run_state get_state(void *opaque, struct cpupolicy_vcpu *vcpus, uint32_t n)
{
	struct fake *f = opaque;

	f->states++;
	ck_assert_uint_eq(n, f->vcpus);
	for (uint32_t i = 0; i < n; i++) {
		ck_assert_uint_eq(vcpus[i].mpidr, i);
		vcpus[i].flags = f->flags[i];
	}
	return f->run_state;
}

const struct cpupolicy_ops *fake_ops(void)
{
	static const struct cpupolicy_ops ops = {
		.policy_changed = policy_changed,
		.link_changed = link_changed,
		.verdict = verdict,
		.get_state = get_state,
	};

	return &ops;
}

static void make_vmm(struct fake *f)
{
	uint64_t mpidrs[CPUPOLICY_MAX_VCPUS];
	struct cpupolicy_identity identity = {
		.uuid = {1, 2, 3},
		.name = "vm",
		.possible = f->vcpus,
		.boot = f->vcpus < FAKE_BOOT ? f->vcpus : FAKE_BOOT,
		.mpidrs = mpidrs,
		.flags = CPUPOLICY_REG_NOTIFY,
	};

	for (uint32_t i = 0; i < f->vcpus; i++)
		mpidrs[i] = i;
	ck_assert_int_eq(cpupolicy_new(&f->c, &identity, fake_ops(), f), 0);
}

/* ---- both ---- */

void fake_listen(struct fake *f)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_ge(f->listener, 0);
	ck_assert_int_eq(bind(f->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(f->listener, 4), 0);
}

void fake_open(struct fake *f, uint32_t vcpus)
{
	*f = (struct fake){.fd = -1, .doorbell = -1, .memfd = -1, .vcpus = vcpus};
	f->run_state = CPUPOLICY_RUN_RUNNING;
	f->confirms = true;
	strcpy(f->dir, "/tmp/check_libcpupolicy.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
	fake_listen(f);
	fake_new_page(f, FAKE_EPOCH);
	make_vmm(f);
}

void fake_close(struct fake *f)
{
	f->c = cpupolicy_free(f->c);
	fake_hangup(f);
	munmap(f->page, f->page_size);
	close(f->memfd);
	close(f->listener);
	unlink(f->path);
	rmdir(f->dir);
}

uint64_t fake_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

void fake_run(struct fake *f, int fd, uint64_t since)
{
	struct pollfd fds[] = {{.fd = cpupolicy_get_fd(f->c), .events = POLLIN}, {.fd = fd, .events = POLLIN}};

	do {
		uint64_t passed = fake_now() - since;

		ck_assert_msg(passed < DEADLINE_NS, "nothing happened; the link: %s", cpupolicy_link_reason(f->c));
		ck_assert_int_ge(poll(fds, 2, (int)((DEADLINE_NS - passed) / 1000000 + 1)), 0);
		if (fds[0].revents)
			ck_assert_int_eq(cpupolicy_dispatch(f->c), 0);
	} while (fd >= 0 && !fds[1].revents);
}

/* ---- the daemon's side ---- */

void fake_accept(struct fake *f)
{
	ck_assert_int_lt(f->fd, 0);
	fake_run(f, f->listener, fake_now());
	f->fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(f->fd, 0);
	f->state = CPUPOLICY_MSG_GREETING;
}

static void read_exactly(struct fake *f, void *buffer, size_t n)
{
	uint8_t *at = buffer;
	uint64_t since = fake_now();

	while (n > 0) {
		ssize_t got;

		fake_run(f, f->fd, since);
		got = recv(f->fd, at, n, MSG_DONTWAIT);
		ck_assert_msg(got > 0, "the VMM hung up; the link: %s", cpupolicy_link_reason(f->c));
		at += got;
		n -= (size_t)got;
	}
}

uint32_t fake_next(struct fake *f)
{
	struct cpupolicy_msg_context context = {
		.features = CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING,
		.max_vcpus = CPUPOLICY_MAX_VCPUS,
		.possible = f->vcpus,
	};
	uint8_t wire[CPUPOLICY_MAX_PAYLOAD];
	const char *why = "";

	read_exactly(f, wire, 16);
	ck_assert_msg(cpupolicy_msg_check_header(wire, f->state, &f->header, &why) == 0, "%s", why);
	read_exactly(f, wire, f->header.size);
	cpupolicy_msg_decode(&f->header, wire, &f->m);
	ck_assert_msg(cpupolicy_msg_check_payload(&f->header, &f->m, &context, &why) == 0, "%s", why);
	return f->header.request;
}

void fake_expect(struct fake *f, uint32_t request)
{
	ck_assert_msg(fake_next(f) == request, "%s where %s was due", cpupolicy_msg_row(f->header.request)->name,
		      cpupolicy_msg_row(request)->name);
}

void fake_expect_end(struct fake *f)
{
	uint64_t since = fake_now();
	char byte;
	ssize_t n;

	do {
		fake_run(f, f->fd, since);
		n = recv(f->fd, &byte, 1, MSG_DONTWAIT);
	} while (n > 0);
	ck_assert(n == 0 || errno == ECONNRESET);
	fake_hangup(f);
}

void fake_send(struct fake *f, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(16 * sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds > 0) {
		struct cmsghdr *cmsg = &control.align;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	ck_assert_int_eq(sendmsg(f->fd, &msg, MSG_NOSIGNAL), (ssize_t)n);
}

size_t fake_drain(struct fake *f)
{
	uint8_t wire[CPUPOLICY_MAX_PAYLOAD];
	ssize_t n = recv(f->fd, wire, sizeof(wire), MSG_WAITALL);

	ck_assert_int_ge(n, 0);
	if (n >= 16) {
		cpupolicy_msg_decode_header(wire, &f->header);
		ck_assert_uint_ge((size_t)n, 16 + f->header.size);
		cpupolicy_msg_decode(&f->header, wire + 16, &f->m);
	}
	return (size_t)n;
}

void fake_reply(struct fake *f, const void *payload)
{
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];

	fake_send(f, wire, cpupolicy_msg_encode_reply(&f->header, payload, wire), NULL, 0);
}

void fake_error(struct fake *f, enum cpupolicy_error_code code, const char *sentence)
{
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];

	fake_send(f, wire, cpupolicy_msg_encode_error(&f->header, code, sentence, wire), NULL, 0);
}

void fake_greet(struct fake *f)
{
	struct cpupolicy_hello_reply reply = {.features = CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING, .max_vcpus = 512};

	fake_accept(f);
	fake_expect(f, CPUPOLICY_HELLO);
	fake_reply(f, &reply);
	f->state = CPUPOLICY_MSG_GREETED;
	fake_expect(f, CPUPOLICY_REGISTER);
}

void fake_admit(struct fake *f)
{
	struct cpupolicy_register_reply reply = {
		.token = {'t'},
		.epoch = f->epoch,
		.possible = f->vcpus,
		.enabled = 1,
		.page_size = (uint32_t)f->page_size,
	};
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];
	int pair[2], fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	f->doorbell = pair[0];
	fds[0] = f->memfd;
	fds[1] = pair[1];
	fake_send(f, wire, cpupolicy_msg_encode_reply(&f->header, &reply, wire), fds, 2);
	close(pair[1]);
	f->state = CPUPOLICY_MSG_REGISTERED;
}

void fake_register(struct fake *f)
{
	unsigned changes = f->policy_changes;

	fake_greet(f);
	fake_admit(f);
	fake_until(f, f->policy_changes > changes && cpupolicy_link(f->c) == CPUPOLICY_LINK_REGISTERED);
	if (f->confirms)
		fake_expect(f, CPUPOLICY_CONFIRM);
}

void fake_hangup(struct fake *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->doorbell >= 0)
		close(f->doorbell);
	f->fd = f->doorbell = -1;
}

/* ---- the page ---- */

struct cpupolicy_page_word fake_granted(uint32_t grant)
{
	return (struct cpupolicy_page_word){
		.enabled = true,
		.wanted = true,
		.verdict = CPUPOLICY_VERDICT_ALLOW,
		.grant = grant,
	};
}

void fake_new_page(struct fake *f, uint32_t epoch)
{
	if (f->memfd >= 0) {
		munmap(f->page, f->page_size);
		close(f->memfd);
	}
	f->page_size = 8192;
	f->epoch = epoch;
	f->memfd = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_ge(f->memfd, 0);
	ck_assert_int_eq(ftruncate(f->memfd, (off_t)f->page_size), 0);
	ck_assert_int_eq(fcntl(f->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	f->page = mmap(NULL, f->page_size, PROT_READ | PROT_WRITE, MAP_SHARED, f->memfd, 0);
	ck_assert_ptr_ne(f->page, MAP_FAILED);
	cpupolicy_page_init(f->page, f->vcpus, FAKE_ASK_TIMEOUT_MS);
	for (uint32_t i = 0; i < FAKE_BOOT && i < f->vcpus; i++)
		fake_store(f, i, fake_granted(1));
	cpupolicy_page_store_head(f->page, cpupolicy_page_make_head(epoch, 1));
}

void fake_store(struct fake *f, uint32_t vcpu, struct cpupolicy_page_word word)
{
	cpupolicy_page_store_word(f->page, vcpu, cpupolicy_page_make_word(&word));
}

void fake_publish(struct fake *f)
{
	cpupolicy_page_store_head(f->page, cpupolicy_page_load_head(f->page) + 1);
	if (f->doorbell >= 0)
		ck_assert_int_eq(send(f->doorbell, "!", 1, MSG_NOSIGNAL | MSG_DONTWAIT), 1);
}
