/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

#define NS_PER_MS    UINT64_C(1000000)
#define RETRY_MIN_NS (100 * NS_PER_MS)
#define RETRY_MAX_NS (5000 * NS_PER_MS)
#define HANDSHAKE_NS (10000 * NS_PER_MS)
/* A session that ended sooner did not work, whatever its registration said. */
#define PROVEN_NS          (1000 * NS_PER_MS)
#define MAX_ASK_TIMEOUT_MS 60000u

#define READS_PER_DISPATCH 16

/* A sequence number is a counter and the caller that it was for. */
#define SEQ_CALLER_BITS 9
_Static_assert(CPUPOLICY_MAX_VCPUS <= 1u << SEQ_CALLER_BITS, "callers fit in a sequence number");

/* ---- time ---- */

uint64_t cpupolicy_session_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

void cpupolicy_session_wake(struct cpupolicy *c, uint64_t at)
{
	struct itimerspec when;

	if (at == 0)
		at = 1;
	if (at == UINT64_MAX || (c->armed != 0 && c->armed <= at))
		return;
	when = (struct itimerspec){
		.it_value =
			{
				.tv_sec = (time_t)(at / UINT64_C(1000000000)),
				.tv_nsec = (long)(at % UINT64_C(1000000000)),
			},
	};
	timerfd_settime(c->timer, TFD_TIMER_ABSTIME, &when, NULL);
	c->armed = at;
}

static void timer_expired(struct cpupolicy *c)
{
	uint64_t expirations;

	if (read(c->timer, &expirations, sizeof(expirations)) == sizeof(expirations))
		c->armed = 0;
}

/* Many VMs lose one daemon at the same moment: they come back spread over a quarter of the delay. */
static uint64_t jitter(struct cpupolicy *c, uint64_t delay)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return delay - c->random % (delay / 4);
}

/* ---- link ---- */

void cpupolicy_session_set_link(struct cpupolicy *c, enum cpupolicy_link link, const char *reason)
{
	if (c->link == link && strcmp(c->reason, reason) == 0)
		return;
	c->link = link;
	snprintf(c->reason, sizeof(c->reason), "%s", reason);
	c->link_news = true;
	cpupolicy_session_wake(c, 0);
}

bool cpupolicy_session_reports(const struct cpupolicy *c)
{
	return c->state == CPUPOLICY_SESSION_REGISTERING || c->state == CPUPOLICY_SESSION_REGISTERED;
}

static void close_doorbell(struct cpupolicy *c)
{
	if (c->doorbell < 0)
		return;
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, c->doorbell, NULL);
	close(c->doorbell);
	c->doorbell = -1;
}

/* Nobody will answer any more: what is asked is decided by timeout, now. */
static void expire_all_asks(struct cpupolicy *c)
{
	for (uint32_t i = 0; i < c->identity.possible && c->asks_used > 0; i++)
		c->asks[i].deadline = 0;
}

static void close_session(struct cpupolicy *c, enum cpupolicy_session_state next)
{
	cpupolicy_channel_close(&c->channel);
	close_doorbell(c);
	expire_all_asks(c);
	c->replies_due = 0;
	c->resync = false;
	c->overflowed = false;
	c->state = next;
}

void cpupolicy_session_end(struct cpupolicy *c, const char *reason)
{
	close_session(c, CPUPOLICY_SESSION_OFF);
	c->path[0] = '\0';
	cpupolicy_session_set_link(c, CPUPOLICY_LINK_CONNECTING, reason);
}

static void lose(struct cpupolicy *c, enum cpupolicy_link link, const char *reason, bool slowly)
{
	uint64_t now = cpupolicy_session_now();

	if (slowly)
		c->retry_delay = RETRY_MAX_NS;
	else if (c->state == CPUPOLICY_SESSION_REGISTERED && now - c->registered_at >= PROVEN_NS)
		c->retry_delay = RETRY_MIN_NS;
	close_session(c, c->path[0] ? CPUPOLICY_SESSION_WAITING : CPUPOLICY_SESSION_OFF);
	c->retry_at = now + jitter(c, c->retry_delay);
	c->retry_delay = c->retry_delay * 2 < RETRY_MAX_NS ? c->retry_delay * 2 : RETRY_MAX_NS;
	if (!c->local)
		cpupolicy_session_set_link(c, link, reason);
}

static void lose_nonsense(struct cpupolicy *c, const char *why)
{
	char reason[sizeof(c->reason)];

	snprintf(reason, sizeof(reason), "the daemon does not keep to the protocol: %s", why);
	lose(c, CPUPOLICY_LINK_CONNECTING, reason, true);
}

/* ---- handshake ---- */

void cpupolicy_session_init(struct cpupolicy *c)
{
	uint64_t now = cpupolicy_session_now();

	c->state = CPUPOLICY_SESSION_OFF;
	c->retry_delay = RETRY_MIN_NS;
	c->random = (now ^ (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)c) | 1;
}

uint32_t cpupolicy_session_next_seq(struct cpupolicy *c, uint32_t caller)
{
	return ++c->seq << SEQ_CALLER_BITS | caller;
}

static void put_handshake(struct cpupolicy *c, enum cpupolicy_request request, const void *payload, uint32_t size)
{
	struct cpupolicy_header header = {
		.request = request,
		.size = size,
		.seq = cpupolicy_session_next_seq(c, 0),
	};

	c->awaited = header.seq;
	c->deadline = cpupolicy_session_now() + HANDSHAKE_NS;
	cpupolicy_channel_put(&c->channel, &header, payload, CPUPOLICY_CHANNEL_BUFFER);
}

static void greet(struct cpupolicy *c)
{
	struct cpupolicy_hello hello = {.features = CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING};

	c->features = hello.features;
	c->state = CPUPOLICY_SESSION_GREETING;
	put_handshake(c, CPUPOLICY_HELLO, &hello, sizeof(hello));
	cpupolicy_channel_flush(&c->channel);
}

static void connect_path(struct cpupolicy *c)
{
	char reason[sizeof(c->reason)];
	int r;

	r = cpupolicy_channel_connect(&c->channel, c->path);
	if (r < 0) {
		snprintf(reason, sizeof(reason), "cannot connect to %s: %s", c->path, strerror(-r));
		lose(c, CPUPOLICY_LINK_CONNECTING, reason, false);
		return;
	}
	greet(c);
}

static void begin_registration(struct cpupolicy *c)
{
	const struct cpupolicy_identity *id = &c->identity;
	union cpupolicy_msg_payload m = {0};

	c->joining = c->incoming && (c->features & CPUPOLICY_F_INCOMING);
	memcpy(m.reg.head.uuid, id->uuid, sizeof(id->uuid));
	/* The token of a live VM without the flag would be a claim to replace its session. */
	if (c->joining || !c->incoming)
		memcpy(m.reg.head.token, c->token, sizeof(c->token));
	memcpy(m.reg.head.name, id->name, strlen(id->name));
	m.reg.head.flags = id->flags | (c->joining ? CPUPOLICY_REG_INCOMING : 0);
	m.reg.head.possible = id->possible;
	m.reg.head.boot = id->boot;
	m.reg.head.run_state = cpupolicy_report_collect(c, m.reg.vcpus);
	/* What the guest ejects from here on is news to the daemon. */
	for (uint32_t i = 0; i < id->possible; i++)
		c->policy.vcpu[i].late = false;
	put_handshake(c, CPUPOLICY_REGISTER, &m,
		      (uint32_t)(sizeof(m.reg.head) + id->possible * sizeof(m.reg.vcpus[0])));
	cpupolicy_channel_hold(&c->channel);
	c->state = CPUPOLICY_SESSION_REGISTERING;
	cpupolicy_channel_flush(&c->channel);
}

static void greeted(struct cpupolicy *c, const struct cpupolicy_hello_reply *reply)
{
	char reason[sizeof(c->reason)];

	c->features = reply->features;
	if (c->identity.possible > reply->max_vcpus) {
		snprintf(reason, sizeof(reason), "the VM has %u vCPUs, the daemon serves %u at most",
			 c->identity.possible, reply->max_vcpus);
		lose(c, CPUPOLICY_LINK_REFUSED, reason, true);
		return;
	}
	begin_registration(c);
}

static int watch_doorbell(struct cpupolicy *c, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = CPUPOLICY_SESSION_TAG_DOORBELL};
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode) || epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return -EPROTO;
	c->doorbell = fd;
	return 0;
}

static int take_page(struct cpupolicy *c, const struct cpupolicy_register_reply *reply, const char **ret_why)
{
	int page, doorbell, r;

	if (cpupolicy_channel_fds(&c->channel) != CPUPOLICY_MSG_REGISTER_FDS) {
		*ret_why = "a registration without its descriptors";
		return -EPROTO;
	}
	doorbell = cpupolicy_channel_take_fd(&c->channel, 1);
	r = watch_doorbell(c, doorbell);
	if (r < 0) {
		close(doorbell);
		*ret_why = "the doorbell is not a socket";
		return r;
	}
	page = cpupolicy_channel_take_fd(&c->channel, 0);
	r = cpupolicy_policy_adopt(&c->policy, page, reply->page_size, reply->epoch, ret_why);
	close(page);
	cpupolicy_channel_close_fds(&c->channel);
	return r;
}

static void registered(struct cpupolicy *c, const struct cpupolicy_register_reply *reply)
{
	const char *why;

	if (take_page(c, reply, &why) < 0) {
		lose_nonsense(c, why);
		return;
	}
	memcpy(c->token, reply->token, sizeof(c->token));
	c->epoch = reply->epoch;
	c->confirmed_epoch = 0;
	c->registered_at = cpupolicy_session_now();
	c->incoming = c->joining && c->run_state == CPUPOLICY_RUN_INACTIVE;
	c->hurry = false;
	c->local = false;
	c->state = CPUPOLICY_SESSION_REGISTERED;
	c->policy_news = true;
	cpupolicy_session_set_link(c, CPUPOLICY_LINK_REGISTERED, "registered");
	cpupolicy_channel_release(&c->channel);
	cpupolicy_channel_flush(&c->channel);
}

static void refused(struct cpupolicy *c, const struct cpupolicy_error *error)
{
	/* In these two the daemon says that it is not up to the VM. */
	if (error->code == CPUPOLICY_ERROR_BUSY || error->code == CPUPOLICY_ERROR_STORAGE)
		lose(c, CPUPOLICY_LINK_CONNECTING, error->message, false);
	else
		lose(c, CPUPOLICY_LINK_REFUSED, error->message, true);
	if (c->hurry)
		cpupolicy_session_retry(c);
	c->hurry = false;
}

/* ---- asks ---- */

void cpupolicy_session_forget_ask(struct cpupolicy *c, uint32_t caller)
{
	if (!c->asks[caller].used)
		return;
	c->asks[caller].used = false;
	c->asks_used--;
}

void cpupolicy_session_ask(struct cpupolicy *c, uint32_t caller, uint32_t target, uint32_t function)
{
	uint32_t timeout = cpupolicy_page_ask_timeout_ms(c->policy.page);
	struct cpupolicy_ask_slot *slot = &c->asks[caller];
	struct cpupolicy_ask ask = {.vcpu = target, .caller = caller, .function = function};
	struct cpupolicy_header header = {
		.request = CPUPOLICY_ASK,
		.size = sizeof(ask),
		.seq = cpupolicy_session_next_seq(c, caller),
	};

	if (timeout > MAX_ASK_TIMEOUT_MS)
		timeout = MAX_ASK_TIMEOUT_MS;
	if (!slot->used)
		c->asks_used++;
	*slot = (struct cpupolicy_ask_slot){
		.used = true,
		.target = target,
		.seq = header.seq,
		.deadline = cpupolicy_session_now() + timeout * NS_PER_MS,
	};
	if (cpupolicy_channel_put(&c->channel, &header, &ask, CPUPOLICY_CHANNEL_BUFFER - 64) == 0)
		c->replies_due++;
	cpupolicy_channel_flush(&c->channel);
	/* A buffer that ran empty here wakes nobody, and a resynchronisation may be waiting for that. */
	cpupolicy_session_wake(c, c->resync ? 0 : slot->deadline);
}

/* The slot is free before the callback, which may ask again. */
static void answer(struct cpupolicy *c, uint32_t caller, struct cpupolicy_verdict verdict)
{
	uint32_t target = c->asks[caller].target;

	cpupolicy_session_forget_ask(c, caller);
	cpupolicy_policy_record(&c->policy, target, verdict);
	c->ops.verdict(c->opaque, caller, target, &verdict);
}

static void answer_by_timeout(struct cpupolicy *c, uint32_t caller)
{
	uint32_t target = c->asks[caller].target;
	struct cpupolicy_verdict verdict =
		cpupolicy_policy_timeout(&c->policy, target, c->run_state == CPUPOLICY_RUN_INACTIVE);

	if (verdict.psci != CPUPOLICY_PSCI_SUCCESS)
		cpupolicy_report_denied(c, target, (enum cpupolicy_reason)verdict.reason);
	answer(c, caller, verdict);
}

static uint64_t expire_asks(struct cpupolicy *c, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; i < c->identity.possible && c->asks_used > 0; i++) {
		if (c->asks[i].used && c->asks[i].deadline <= now)
			answer_by_timeout(c, i);
		if (c->asks[i].used && c->asks[i].deadline < next)
			next = c->asks[i].deadline;
	}
	return next;
}

static void answered(struct cpupolicy *c, const struct cpupolicy_header *header, const union cpupolicy_msg_reply *reply)
{
	uint32_t caller = header->seq & ((1u << SEQ_CALLER_BITS) - 1);
	bool error = header->flags & CPUPOLICY_HDR_ERROR;

	if (c->replies_due == 0) {
		lose_nonsense(c, "an answer that nobody asked for");
		return;
	}
	c->replies_due--;
	if (caller >= c->identity.possible || !c->asks[caller].used || c->asks[caller].seq != header->seq)
		return; /* abandoned, replaced or too late */
	if (error)
		answer_by_timeout(c, caller);
	else
		answer(c, caller, reply->verdict);
}

/* ---- input ---- */

static void handle_handshake(struct cpupolicy *c, const struct cpupolicy_header *header,
			     const union cpupolicy_msg_reply *reply)
{
	bool greeting = c->state == CPUPOLICY_SESSION_GREETING;

	if (header->seq != c->awaited || header->request != (greeting ? CPUPOLICY_HELLO : CPUPOLICY_REGISTER))
		lose_nonsense(c, "a reply to something else");
	else if (header->flags & CPUPOLICY_HDR_ERROR)
		refused(c, &reply->error);
	else if (greeting)
		greeted(c, &reply->hello);
	else
		registered(c, &reply->reg);
}

static void handle(struct cpupolicy *c, const struct cpupolicy_header *header, const union cpupolicy_msg_reply *reply)
{
	bool error = header->flags & CPUPOLICY_HDR_ERROR;

	if (c->state != CPUPOLICY_SESSION_REGISTERED)
		handle_handshake(c, header, reply);
	else if (error && reply->error.code == CPUPOLICY_ERROR_PROTOCOL)
		lose(c, CPUPOLICY_LINK_CONNECTING, reply->error.message, true);
	else if (header->request == CPUPOLICY_ASK)
		answered(c, header, reply);
	else if (!error)
		lose_nonsense(c, "a reply that nobody wanted");
}

/* Everything that was read. The channel is closed when it returns if the session ended. */
static void handle_input(struct cpupolicy *c)
{
	struct cpupolicy_msg_context context = {.possible = c->identity.possible};
	struct cpupolicy_header header;
	union cpupolicy_msg_reply reply;
	const char *why;
	int r;

	while (c->channel.fd >= 0) {
		r = cpupolicy_channel_next(&c->channel, &header, &reply, &why);
		if (r == 0)
			break;
		context.features = c->features;
		if (r > 0)
			r = cpupolicy_msg_check_reply(&header, &reply, &context, &why);
		if (r < 0)
			lose_nonsense(c, why);
		else
			handle(c, &header, &reply);
	}
}

static void channel_input(struct cpupolicy *c)
{
	const char *why;
	int more = 1;

	for (int i = 0; i < READS_PER_DISPATCH && more > 0 && c->channel.fd >= 0; i++) {
		more = cpupolicy_channel_receive(&c->channel, &why);
		if (more == -ECONNRESET) {
			lose(c, CPUPOLICY_LINK_CONNECTING, why, false);
		} else if (more < 0) {
			lose_nonsense(c, why);
		} else if (cpupolicy_channel_fds(&c->channel) > 0 && c->state != CPUPOLICY_SESSION_REGISTERING) {
			lose_nonsense(c, "descriptors where none belong");
		} else {
			handle_input(c);
		}
	}
}

static void doorbell_input(struct cpupolicy *c)
{
	char rings[256];
	ssize_t n;

	if (c->doorbell < 0)
		return;
	n = recv(c->doorbell, rings, sizeof(rings), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		/* The session's own end comes with it, and says more. */
		close_doorbell(c);
		channel_input(c);
		if (c->state == CPUPOLICY_SESSION_REGISTERED && c->doorbell < 0)
			lose(c, CPUPOLICY_LINK_CONNECTING, "the daemon closed the doorbell", false);
	}
}

/* ---- start and dispatch ---- */

void cpupolicy_session_start(struct cpupolicy *c)
{
	char reason[sizeof(c->reason)];

	if (c->path[0]) {
		snprintf(reason, sizeof(reason), "connecting to %s", c->path);
		c->state = CPUPOLICY_SESSION_WAITING;
		cpupolicy_session_retry(c);
	} else {
		snprintf(reason, sizeof(reason), "registering");
		greet(c);
	}
	if (!c->local)
		cpupolicy_session_set_link(c, CPUPOLICY_LINK_CONNECTING, reason);
}

void cpupolicy_session_retry(struct cpupolicy *c)
{
	if (c->state != CPUPOLICY_SESSION_WAITING)
		return;
	c->retry_at = 0;
	cpupolicy_session_wake(c, 0);
}

static void handle_events(struct cpupolicy *c)
{
	struct epoll_event events[3];
	int n = epoll_wait(c->epoll, events, 3, 0);

	for (int i = 0; i < n; i++) {
		switch (events[i].data.u32) {
		case CPUPOLICY_SESSION_TAG_TIMER:
			timer_expired(c);
			break;
		case CPUPOLICY_SESSION_TAG_CHANNEL:
			if (events[i].events & EPOLLOUT)
				cpupolicy_channel_flush(&c->channel);
			if (events[i].events & ~(uint32_t)EPOLLOUT)
				channel_input(c);
			break;
		case CPUPOLICY_SESSION_TAG_DOORBELL:
			doorbell_input(c);
			break;
		}
	}
}

static uint64_t handle_deadlines(struct cpupolicy *c, uint64_t now)
{
	bool shaking = c->state == CPUPOLICY_SESSION_GREETING || c->state == CPUPOLICY_SESSION_REGISTERING;

	if (c->state == CPUPOLICY_SESSION_WAITING && c->retry_at <= now)
		connect_path(c);
	else if (shaking && c->path[0] && c->deadline <= now)
		lose(c, CPUPOLICY_LINK_CONNECTING, "the daemon does not answer", false);
	switch (c->state) {
	case CPUPOLICY_SESSION_WAITING:
		return c->retry_at;
	case CPUPOLICY_SESSION_GREETING:
	case CPUPOLICY_SESSION_REGISTERING:
		return c->path[0] ? c->deadline : UINT64_MAX;
	default:
		return UINT64_MAX;
	}
}

static void tell_news(struct cpupolicy *c)
{
	uint64_t head;

	if (c->link_news) {
		c->link_news = false;
		if (c->ops.link_changed)
			c->ops.link_changed(c->opaque, c->link, c->reason);
	}
	head = cpupolicy_policy_head(&c->policy);
	if (c->policy.page && (c->policy_news || head != c->announced)) {
		c->policy_news = false;
		c->announced = head;
		c->ops.policy_changed(c->opaque);
	}
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

int cpupolicy_session_dispatch(struct cpupolicy *c)
{
	uint64_t now, next;

	if (c->dispatching)
		return 0;
	c->dispatching = true;
	handle_events(c);
	now = cpupolicy_session_now();
	next = handle_deadlines(c, now);
	next = earlier(next, expire_asks(c, now));
	tell_news(c);
	next = earlier(next, cpupolicy_report_flush(c, now));
	cpupolicy_session_wake(c, next);
	c->dispatching = false;
	return 0;
}
