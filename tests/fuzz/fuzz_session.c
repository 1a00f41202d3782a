/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Sessions and the host behind them, under whatever up to four VMMs and an operator do to two VMs, on a disk that may
 * be slow or full. After each turn of the loop every page and every reply is held against what the daemon promises.
 *
 * Input: one byte of options, then commands (enum command in the low four bits of a byte, the connection in the next
 * two) with their arguments. Small inputs say a lot: messages are built from the codec's table, one byte per member.
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/settings/config.h"
#include "daemon/host/host.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/vmm/session.h"
#include "daemon/base/util.h"
#include "fuzz.h"
#include "proto/message.h"
#include "proto/page.h"
#include "tests/fuzz/memory_store.h"

#define OPTION_MESSAGE_RATE 0x1
#define OPTION_ASK          0x2
#define OPTION_OBSERVE      0x4
#define OPTION_CPU_ON_RATE  0x8
#define OPTION_BOUNDS       0x10
#define OPTION_CAPACITY     0x20

enum command {
	CONNECT, /* who: 1 another user, 2 its process has ended */
	CLOSE,
	RAW,      /* length, bytes */
	HELLO,    /* features */
	REGISTER, /* enum claim bits, boot and run state and vCPU flags */
	MESSAGE,  /* request, flags, a byte per member */
	RESIZE,   /* VM, count */
	FORGET,   /* VM */
	DISK,     /* 1 slow, 2 full */
	TURN,
	ASSIGN, /* VM, class, tenant */
	MODE,   /* 1 drain, else freeze; 2 on */
	IMPORT, /* VM, balance */
	COMMANDS,
};

#define CLAIM_VM        0x01
#define CLAIM_NAME      0x02 /* the other one's */
#define CLAIM_TOKEN     0x04
#define CLAIM_BAD_TOKEN 0x08
#define CLAIM_INCOMING  0x10
#define CLAIM_NOTIFY    0x20
#define CLAIM_REMOVABLE 0x40
#define CLAIM_SMALL     0x80

#define VMS         2
#define CONNECTIONS 4
#define POSSIBLE    6u
#define SMALL       3u
#define SEQ_VCPUS   16u /* a sequence number tells which vCPU was asked for */

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

struct connection {
	struct session *session; /* NULL: it has ended */
	int fd;                  /* -1: not connected */
	int vm;                  /* that it tries to be, or is */
	uint32_t possible;
	struct cpupolicy_page *page;
	size_t page_size;
	int fds[2];
	unsigned n_fds;
	uint64_t enabled; /* on the page, when the last turn ended */
	uint8_t input[CPUPOLICY_MSG_MAX_REPLY];
	size_t n_input;
	bool registering;
	bool raw; /* it has sent bytes of its own: its sequence numbers say nothing */
};

static struct {
	struct loop *loop;
	struct store *store;
	struct host *host;
	struct session_hub *hub;
	struct config *config;
	struct policy *policy;
	bool observe;
	struct connection connections[CONNECTIONS];
	uint8_t tokens[VMS][CPUPOLICY_TOKEN_SIZE];
	uint32_t asks;
	uint8_t announced[4096 / 8]; /* jobs, by number */
	bool only_asked;             /* since the last turn nothing was sent but ASKs */
	const uint8_t *data;
	size_t size;
} f;

static uint8_t take(void)
{
	if (f.size == 0)
		return 0;
	f.size--;
	return *f.data++;
}

static void uuid_of(int vm, uint8_t ret[CPUPOLICY_UUID_SIZE])
{
	memset(ret, vm + 1, CPUPOLICY_UUID_SIZE);
}

/* ---- what the daemon sends ---- */

static void drop(struct connection *c)
{
	if (c->page)
		munmap(c->page, c->page_size);
	if (c->fd >= 0)
		close(c->fd);
	while (c->n_fds > 0)
		close(c->fds[--c->n_fds]);
	*c = (struct connection){.fd = -1, .session = c->session};
}

static void on_register_reply(struct connection *c, const struct cpupolicy_register_reply *reply)
{
	must(c->n_fds == 2 && !c->page);
	if (c->raw)
		return; /* as which VM, only it knows */
	memcpy(f.tokens[c->vm], reply->token, sizeof(reply->token));
	c->page_size = reply->page_size;
	c->page = mmap(NULL, c->page_size, PROT_READ, MAP_SHARED, c->fds[0], 0);
	must(c->page != MAP_FAILED);
	must(cpupolicy_page_check(c->page, c->page_size, reply->possible) == 0);
	c->possible = reply->possible;
}

static void check_verdict(const struct connection *c, const struct cpupolicy_header *header,
			  const struct cpupolicy_verdict *verdict)
{
	uint32_t vcpu = header->seq % SEQ_VCPUS;

	if (verdict->psci != CPUPOLICY_PSCI_SUCCESS || c->raw || vcpu == 0)
		return;
	if (verdict->reason == CPUPOLICY_REASON_OBSERVED)
		must(f.observe);
	else if (f.only_asked)
		must(c->enabled >> vcpu & 1);
}

static void on_reply(struct connection *c, const struct cpupolicy_header *header,
		     const union cpupolicy_msg_reply *reply)
{
	if (header->request == CPUPOLICY_REGISTER)
		c->registering = false;
	if (header->flags & CPUPOLICY_HDR_ERROR)
		return;
	if (header->request == CPUPOLICY_REGISTER)
		on_register_reply(c, &reply->reg);
	else if (header->request == CPUPOLICY_ASK)
		check_verdict(c, header, &reply->verdict);
}

/* Returns the length of the message at the beginning of the input; 0: it is not whole. */
static size_t next_reply(struct connection *c)
{
	const struct cpupolicy_msg_context context = {
		.features = UINT64_MAX,
		.max_vcpus = CPUPOLICY_MAX_VCPUS,
		.possible = c->possible,
	};
	union cpupolicy_msg_reply reply;
	struct cpupolicy_header header;
	const char *why;

	if (c->n_input < CPUPOLICY_MSG_HEADER_SIZE)
		return 0;
	cpupolicy_msg_decode_header(c->input, &header);
	must(header.size <= sizeof(c->input) - CPUPOLICY_MSG_HEADER_SIZE);
	if (c->n_input < CPUPOLICY_MSG_HEADER_SIZE + header.size)
		return 0;
	/* A request that does not exist is repeated in the error; nothing else is unusual. */
	if (cpupolicy_msg_row(header.request)) {
		must(cpupolicy_msg_check_reply_header(c->input, &header, &why) == 0);
		cpupolicy_msg_decode_reply(&header, c->input + CPUPOLICY_MSG_HEADER_SIZE, &reply);
		if (!c->raw)
			must(cpupolicy_msg_check_reply(&header, &reply, &context, &why) == 0);
		on_reply(c, &header, &reply);
	} else {
		must(header.flags & CPUPOLICY_HDR_ERROR);
	}
	return CPUPOLICY_MSG_HEADER_SIZE + header.size;
}

static void keep_descriptors(struct connection *c, struct msghdr *message)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(message);

	if (!control)
		return;
	must(c->n_fds == 0 && control->cmsg_len == CMSG_LEN(sizeof(c->fds)));
	memcpy(c->fds, CMSG_DATA(control), sizeof(c->fds));
	c->n_fds = 2;
}

static void read_replies(struct connection *c)
{
	while (c->fd >= 0) {
		char control[CMSG_SPACE(2 * sizeof(int))];
		struct iovec iov = {.iov_base = c->input + c->n_input, .iov_len = sizeof(c->input) - c->n_input};
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};
		ssize_t n = recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		size_t done;

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			drop(c);
			return;
		}
		keep_descriptors(c, &message);
		c->n_input += (size_t)n;
		while ((done = next_reply(c)) > 0) {
			c->n_input -= done;
			memmove(c->input, c->input + done, c->n_input);
		}
	}
}

/* ---- what the daemon promises ---- */

static uint64_t enabled_on(const struct connection *c)
{
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint64_t enabled = 0;

	uuid_of(c->vm, uuid);
	for (uint32_t i = 0; i < c->possible; i++) {
		uint64_t value = cpupolicy_page_load_word(c->page, i);
		struct cpupolicy_page_word word = cpupolicy_page_parse_word(value);

		if (word.enabled)
			enabled |= UINT64_C(1) << i;
		else
			must(word.verdict == CPUPOLICY_VERDICT_DENY || f.observe);
		/* Commit, then page: whatever the guest may have would be known to a daemon that starts now. */
		must(!word.enabled || c->raw || memory_store_enabled(f.store, uuid, i));
	}
	must(enabled == 0 || c->raw ||
	     cpupolicy_page_epoch(cpupolicy_page_load_head(c->page)) <= memory_store_epoch(f.store, uuid));
	return enabled;
}

/* No more is lent than there is, and what is held beyond that is overdue. */
static void check_host(void)
{
	struct host_view view;

	host_view(f.host, &view);
	must(view.sums.allowed <= view.capacity || view.sums.allowed == view.sums.guaranteed || view.frozen);
	must(view.sums.held <= view.sums.allowed + view.sums.overdue);
}

static void check_promises(void)
{
	unsigned holders[VMS] = {0};

	for (int i = 0; i < CONNECTIONS; i++) {
		struct connection *c = &f.connections[i];

		if (c->fd < 0 || !c->page)
			continue;
		c->enabled = enabled_on(c);
		holders[c->vm] += c->enabled != 0 && !c->raw;
	}
	for (int vm = 0; vm < VMS; vm++)
		must(holders[vm] <= 1);
	check_host();
}

static void quit(void *userdata)
{
	loop_quit(userdata);
}

static void turn(void)
{
	struct loop_deferred *d;

	must(loop_deferred_new(&d, f.loop, quit, f.loop) == 0);
	/* The poller first, then what it has deferred, then what that has. */
	for (int i = 0; i < 2; i++) {
		loop_deferred_schedule(d);
		must(loop_run(f.loop) == 0);
	}
	loop_deferred_free(d);
	for (int i = 0; i < CONNECTIONS; i++)
		read_replies(&f.connections[i]);
	check_promises();
	f.only_asked = true;
}

/* ---- what VMMs and operators do ---- */

static void on_registered(struct session *session, void *userdata)
{
}

static void on_ended(struct session *session, void *userdata)
{
	((struct connection *)userdata)->session = NULL;
}

static const struct session_ops session_ops = {.registered = on_registered, .ended = on_ended};

static void do_connect(struct connection *c)
{
	uint8_t who = take();
	struct peer peer = {
		.uid = who & 1 ? 1001 : 1000,
		.pid = getpid(),
		.start_time = who & 2 ? 1 : 0, /* a process of this number that started then is no more */
	};
	int pair[2];

	drop(c);
	c->session = session_free(c->session);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	c->fd = pair[0];
	must(session_new(&c->session, f.hub, pair[1], &peer, NULL, &session_ops, c) == 0);
}

static void send_bytes(struct connection *c, const uint8_t *bytes, size_t n)
{
	ssize_t sent;

	if (c->fd < 0)
		return;
	sent = send(c->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)sent;
}

static void do_raw(struct connection *c)
{
	size_t n = take();

	if (n > f.size)
		n = f.size;
	c->raw = true;
	f.only_asked = false;
	send_bytes(c, f.data, n);
	f.data += n;
	f.size -= n;
}

static void send_message(struct connection *c, uint32_t request, uint32_t flags, const void *payload, size_t n)
{
	uint8_t wire[CPUPOLICY_MSG_MAX_REQUEST];
	struct cpupolicy_header header = {.request = request, .flags = flags, .size = (uint32_t)n};

	if (request == CPUPOLICY_ASK)
		header.seq = f.asks++ * SEQ_VCPUS + ((const struct cpupolicy_ask *)payload)->vcpu % SEQ_VCPUS;
	else
		f.only_asked = false;
	send_bytes(c, wire, cpupolicy_msg_encode(&header, payload, wire));
}

static void do_hello(struct connection *c)
{
	struct cpupolicy_hello m = {.features = take()};

	send_message(c, CPUPOLICY_HELLO, 0, &m, sizeof(m));
}

static void do_register(struct connection *c)
{
	struct {
		struct cpupolicy_register head;
		struct cpupolicy_vcpu vcpus[POSSIBLE];
	} m = {0};
	uint8_t claim = take(), more = take();
	int vm = claim & CLAIM_VM;

	if (c->page || c->registering)
		return; /* what it is must not change under what is checked; the codec's fuzzer sends it anyway */
	c->registering = c->fd >= 0;
	c->vm = vm;
	m.head.possible = c->possible = claim & CLAIM_SMALL ? SMALL : POSSIBLE;
	m.head.boot = 1 + more % 8;
	m.head.run_state = 1 + (more >> 3) % 3;
	m.head.flags = (claim & CLAIM_INCOMING ? CPUPOLICY_REG_INCOMING : 0) |
		       (claim & CLAIM_NOTIFY ? CPUPOLICY_REG_NOTIFY : 0) |
		       (claim & CLAIM_REMOVABLE ? CPUPOLICY_REG_BOOT_REMOVABLE : 0);
	uuid_of(vm, m.head.uuid);
	snprintf(m.head.name, sizeof(m.head.name), "vm%d", claim & CLAIM_NAME ? !vm : vm);
	if (claim & CLAIM_TOKEN)
		memcpy(m.head.token, f.tokens[vm], sizeof(m.head.token));
	if (claim & CLAIM_BAD_TOKEN)
		m.head.token[0] ^= 0x55;
	for (uint32_t i = 0; i < m.head.possible; i++)
		m.vcpus[i] = (struct cpupolicy_vcpu){.mpidr = i, .flags = i ? more >> 5 : CPUPOLICY_VCPU_ONLINE};
	send_message(c, CPUPOLICY_REGISTER, 0, &m, sizeof(m.head) + m.head.possible * sizeof(m.vcpus[0]));
}

/* 255 stands for the largest value. */
static uint8_t *put_members(const char *layout, uint8_t *at)
{
	for (; *layout; layout++) {
		uint8_t value = *layout == 'r' ? 0 : take();
		uint64_t v8 = value == 255 ? UINT64_MAX : value;
		uint32_t v4 = (uint32_t)v8;

		if (*layout == '8') {
			memcpy(at, &v8, sizeof(v8));
			at += sizeof(v8);
		} else {
			memcpy(at, &v4, sizeof(v4));
			at += sizeof(v4);
		}
	}
	return at;
}

static void do_message(struct connection *c)
{
	_Alignas(8) uint8_t payload[sizeof(struct cpupolicy_state) + POSSIBLE * sizeof(struct cpupolicy_vcpu)], *at;
	uint32_t request = 1 + take() % CPUPOLICY_REQUEST_MAX;
	const struct cpupolicy_msg_row *row = cpupolicy_msg_row(request);
	uint32_t flags = take() & CPUPOLICY_HDR_NEED_REPLY;

	if (request == CPUPOLICY_REGISTER)
		return;
	at = put_members(row->layout, payload);
	for (uint32_t i = 0; row->stride && i < c->possible; i++)
		at = put_members(row->element_layout, at);
	if (request == CPUPOLICY_ASK && ((struct cpupolicy_ask *)payload)->function == 0)
		((struct cpupolicy_ask *)payload)->function = CPUPOLICY_PSCI_CPU_ON_64;
	send_message(c, request, flags, payload, (size_t)(at - payload));
}

static void on_answer(enum host_error error, const char *message, uint64_t job, void *userdata)
{
	must((error == HOST_OK) == !message);
}

static void do_assign(const char *name)
{
	static const char *const classes[] = {NULL, "", "small", "large", "credit", "nobody"};
	static const char *const tenants[] = {NULL, "", "tiny", "nobody"};
	const char *class = classes[take() % ARRAY_SIZE(classes)];

	host_assign(f.host, name, class, tenants[take() % ARRAY_SIZE(tenants)], 500, on_answer, NULL);
}

static void do_import(const char *name)
{
	struct host_transfer transfer;

	if (host_export(f.host, name, &transfer) != HOST_OK)
		return;
	transfer.credit = true;
	transfer.balance = (int64_t)(int8_t)take() * 1000000000;
	transfer.spent = transfer.balance <= 0;
	host_import(f.host, name, &transfer, 500, on_answer, NULL);
}

static void do_client(enum command command)
{
	static const char *const names[] = {"vm0", "vm1", "01010101-0101-0101-0101-010101010101", "nobody"};
	const char *name = names[take() % 4];

	f.only_asked = false;
	if (command == FORGET)
		host_forget(f.host, name, 500, on_answer, NULL);
	else if (command == ASSIGN)
		do_assign(name);
	else if (command == IMPORT)
		do_import(name);
	else
		host_resize(f.host, name, take() % (POSSIBLE + 2), 500, on_answer, NULL);
}

static void do_mode(void)
{
	uint8_t how = take();

	f.only_asked = false;
	if (how & 1)
		host_drain(f.host, how & 2, 500, on_answer, NULL);
	else
		host_freeze(f.host, how & 2, 500, on_answer, NULL);
}

static void do_disk(void)
{
	uint8_t how = take();

	memory_store_fail(f.store, how & 2);
	memory_store_hold(f.store, how & 1);
}

static void run_command(void)
{
	uint8_t byte = take();
	struct connection *c = &f.connections[byte >> 4 & 3];
	enum command command = (byte & 15) % COMMANDS;

	switch (command) {
	case CONNECT:
		do_connect(c);
		break;
	case CLOSE:
		drop(c);
		break;
	case RAW:
		do_raw(c);
		break;
	case HELLO:
		do_hello(c);
		break;
	case REGISTER:
		do_register(c);
		break;
	case MESSAGE:
		do_message(c);
		break;
	case RESIZE:
	case FORGET:
	case ASSIGN:
	case IMPORT:
		do_client(command);
		break;
	case DISK:
		do_disk();
		break;
	case MODE:
		do_mode();
		break;
	case TURN:
	case COMMANDS:
		turn();
		break;
	}
}

/* ---- what clients are told ---- */

static void on_job_new(struct host_vm *vm, const struct job *job, void *userdata)
{
	must(job->id < 8 * sizeof(f.announced));
	f.announced[job->id / 8] |= (uint8_t)(1u << job->id % 8);
}

/* Nobody hears of the end of a job that was refused, or not told of. */
static void on_job_removed(struct host_vm *vm, const struct job *job, void *userdata)
{
	must(f.announced[job->id / 8] >> job->id % 8 & 1);
	must(job->result != JOB_RUNNING);
	f.announced[job->id / 8] &= (uint8_t) ~(1u << job->id % 8);
}

static const struct host_observer observer = {.job_new = on_job_new, .job_removed = on_job_removed};

/* ---- one run ---- */

static void set_options(uint8_t options)
{
	char common[128], text[1024], *error = NULL;
	const struct policy_source source = {.file = (char *)"options", .text = text};

	f.config->messages = (struct rate_limit){.per_second = options & OPTION_MESSAGE_RATE ? 1 : 0, .burst = 8};
	f.observe = options & OPTION_OBSERVE;
	snprintf(common, sizeof(common), "\"verdicts\": \"%s\", \"observe\": %s%s",
		 options & OPTION_ASK ? "ask" : "page", f.observe ? "true" : "false",
		 options & OPTION_CPU_ON_RATE ? ", \"cpu_on\": {\"per_second\": 1, \"burst\": 2}" : "");
	snprintf(text, sizeof(text),
		 "{\"classes\": {\"default\": {%s, \"guaranteed\": %d, \"limit\": %d},"
		 " \"small\": {%s, \"limit\": 3}, \"large\": {%s, \"guaranteed\": 4, \"priority\": 9, \"refusal\": "
		 "\"revoke\"},"
		 " \"credit\": {%s, \"guaranteed\": 2, \"burst\": {\"cap_seconds\": 60}}},"
		 " \"tenants\": {\"tiny\": {\"quota\": 3}}%s}",
		 common, options & OPTION_BOUNDS ? 2 : 1, options & OPTION_BOUNDS ? 4 : (int)CPUPOLICY_MAX_VCPUS,
		 common, common, common, options & OPTION_CAPACITY ? ", \"host\": {\"capacity\": 6}" : "");
	must(policy_parse(&f.policy, &source, 1, &error) == 0);
}

/* Made once: what does not depend on the input. */
static void prepare(void)
{
	char *error = NULL;

	if (f.config)
		return;
	log_open(LOG_EMERG, true);
	must(config_load(&f.config, "/nonexistent/cpupolicyd.conf", true, &error) == 0);
	must(loop_new(&f.loop) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *error = NULL;

	prepare();
	f.data = data;
	f.size = size;
	f.asks = 0;
	f.only_asked = true;
	memset(f.tokens, 0, sizeof(f.tokens));
	for (int i = 0; i < CONNECTIONS; i++)
		f.connections[i] = (struct connection){.fd = -1};
	set_options(take());
	must(store_open(&f.store, f.loop, "", &error) == 0);
	must(host_new(&f.host, &(struct host_setup){
				       .loop = f.loop, .store = f.store, .config = f.config, .policy = f.policy}) == 0);
	host_observe(f.host, &observer, NULL);
	memset(f.announced, 0, sizeof(f.announced));
	must(session_hub_new(&f.hub, f.loop, f.host, f.config, NULL) == 0);
	while (f.size > 0)
		run_command();
	turn();
	for (int i = 0; i < CONNECTIONS; i++) {
		drop(&f.connections[i]);
		session_free(f.connections[i].session);
	}
	f.host = host_free(f.host);
	f.hub = session_hub_free(f.hub);
	f.store = store_close(f.store);
	f.policy = policy_unref(f.policy);
	return 0;
}
