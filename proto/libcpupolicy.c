/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The public face: checks what the caller passes, and joins policy.c (what the page says), session.c (the connection) and
 * report.c (what the daemon is told). The order within cpupolicy_power_on() and cpupolicy_reset() is part of the
 * protocol (docs/protocol.md, "Admission" and "Reset").
 */

#include "libcpupolicy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "message.h"
#include "report.h"
#include "session.h"
#include "text.h"

/* ---- construction ---- */

static int check_identity(const struct cpupolicy_identity *id, const struct cpupolicy_ops *ops)
{
	static const uint8_t null[CPUPOLICY_UUID_SIZE];
	const char *why;

	if (!id->name || !id->mpidrs || !ops->policy_changed || !ops->verdict || !ops->get_state)
		return -EINVAL;
	if (id->possible < 1 || id->possible > CPUPOLICY_MAX_VCPUS || id->boot < 1 || id->boot > id->possible)
		return -EINVAL;
	if (id->flags & ~(CPUPOLICY_REG_FLAGS & ~CPUPOLICY_REG_INCOMING))
		return -EINVAL;
	if (memcmp(id->uuid, null, sizeof(null)) == 0)
		return -EINVAL;
	if (cpupolicy_text_check_name(id->name, &why) < 0 ||
	    cpupolicy_msg_check_mpidrs(id->mpidrs, id->possible, &why) < 0)
		return -EINVAL;
	return 0;
}

static int copy_identity(struct cpupolicy *c, const struct cpupolicy_identity *id)
{
	size_t size = id->possible * sizeof(*id->mpidrs);
	uint64_t *mpidrs = malloc(size);
	char *name = strdup(id->name);

	c->identity = *id;
	c->identity.mpidrs = mpidrs;
	c->identity.name = name;
	if (!mpidrs || !name)
		return -ENOMEM;
	memcpy(mpidrs, id->mpidrs, size);
	return 0;
}

static int open_descriptors(struct cpupolicy *c)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = CPUPOLICY_SESSION_TAG_TIMER};

	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll < 0)
		return -errno;
	c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->timer < 0)
		return -errno;
	if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->timer, &event) < 0)
		return -errno;
	return 0;
}

static int fill(struct cpupolicy *c, const struct cpupolicy_identity *id)
{
	int r;

	r = copy_identity(c, id);
	if (r < 0)
		return r;
	r = open_descriptors(c);
	if (r < 0)
		return r;
	r = cpupolicy_channel_init(&c->channel, c->epoll, CPUPOLICY_SESSION_TAG_CHANNEL);
	if (r < 0)
		return r;
	c->asks = calloc(id->possible, sizeof(*c->asks));
	c->denials = calloc(id->possible, sizeof(*c->denials));
	if (!c->asks || !c->denials)
		return -ENOMEM;
	return cpupolicy_policy_init(&c->policy, id->possible);
}

int cpupolicy_new(struct cpupolicy **ret, const struct cpupolicy_identity *identity, const struct cpupolicy_ops *ops,
		  void *opaque)
{
	struct cpupolicy *c;
	int r;

	r = check_identity(identity, ops);
	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->epoll = c->timer = c->doorbell = c->channel.fd = -1;
	c->ops = *ops;
	c->opaque = opaque;
	c->run_state = CPUPOLICY_RUN_RUNNING;
	c->link = CPUPOLICY_LINK_CONNECTING;
	strcpy(c->reason, "not started");
	cpupolicy_session_init(c);
	r = fill(c, identity);
	if (r < 0) {
		cpupolicy_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct cpupolicy *cpupolicy_free(struct cpupolicy *c)
{
	if (!c)
		return NULL;
	if (c->doorbell >= 0)
		close(c->doorbell);
	cpupolicy_channel_done(&c->channel);
	if (c->timer >= 0)
		close(c->timer);
	if (c->epoll >= 0)
		close(c->epoll);
	cpupolicy_policy_done(&c->policy);
	free(c->asks);
	free(c->denials);
	free((char *)c->identity.name);
	free((uint64_t *)c->identity.mpidrs);
	free(c);
	return NULL;
}

/* ---- start ---- */

int cpupolicy_start_path(struct cpupolicy *c, const char *path)
{
	if (c->started)
		return -EALREADY;
	if (path[0] == '\0')
		return -EINVAL;
	if (strlen(path) >= sizeof(c->path))
		return -ENAMETOOLONG;
	strcpy(c->path, path);
	c->started = true;
	cpupolicy_session_start(c);
	return 0;
}

static int check_socket(int fd)
{
	int type;
	socklen_t size = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
		return -errno;
	return type == SOCK_STREAM ? 0 : -EPROTOTYPE;
}

int cpupolicy_start_fd(struct cpupolicy *c, int fd)
{
	int r;

	r = c->started ? -EALREADY : check_socket(fd);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return r;
	}
	r = cpupolicy_channel_open(&c->channel, fd);
	if (r < 0)
		return r;
	c->started = true;
	cpupolicy_session_start(c);
	return 0;
}

static int go_local(struct cpupolicy *c, const char *reason)
{
	int r;

	r = cpupolicy_policy_own(&c->policy, c->identity.boot);
	if (r < 0)
		return r;
	c->local = true;
	c->policy_news = true;
	cpupolicy_session_set_link(c, CPUPOLICY_LINK_LOCAL, reason);
	return 0;
}

int cpupolicy_start_local(struct cpupolicy *c)
{
	int r;

	if (c->started)
		return -EALREADY;
	r = go_local(c, "no daemon: this VMM's user switches the vCPUs");
	if (r == 0)
		c->started = true;
	return r;
}

/* ---- running ---- */

int cpupolicy_get_fd(const struct cpupolicy *c)
{
	return c->epoll;
}

int cpupolicy_dispatch(struct cpupolicy *c)
{
	return cpupolicy_session_dispatch(c);
}

/* Milliseconds until then, rounded up; -1 stays -1. */
static int remaining_ms(int timeout_ms, uint64_t deadline)
{
	uint64_t now = cpupolicy_session_now();

	if (timeout_ms < 0)
		return -1;
	return deadline > now ? (int)((deadline - now + 999999) / 1000000) : 0;
}

static uint64_t deadline_in(int timeout_ms)
{
	return cpupolicy_session_now() + (timeout_ms > 0 ? (uint64_t)timeout_ms : 0) * 1000000;
}

int cpupolicy_wait(struct cpupolicy *c, int timeout_ms)
{
	uint64_t deadline = deadline_in(timeout_ms);

	if (c->dispatching)
		return -EDEADLK;
	for (;;) {
		struct pollfd pfd = {.fd = c->epoll, .events = POLLIN};
		int left, r;

		r = cpupolicy_session_dispatch(c);
		if (r < 0)
			return r;
		if (c->link == CPUPOLICY_LINK_REGISTERED || c->link == CPUPOLICY_LINK_LOCAL)
			return 0;
		if (c->link == CPUPOLICY_LINK_REFUSED)
			return -EACCES;
		if (c->state == CPUPOLICY_SESSION_OFF)
			return -ENOTCONN;
		left = remaining_ms(timeout_ms, deadline);
		if (left == 0)
			return -ETIMEDOUT;
		poll(&pfd, 1, left);
	}
}

enum cpupolicy_link cpupolicy_link(const struct cpupolicy *c)
{
	return c->link;
}

const char *cpupolicy_link_reason(const struct cpupolicy *c)
{
	return c->reason;
}

/* ---- policy ---- */

void cpupolicy_view(const struct cpupolicy *c, uint32_t vcpu, struct cpupolicy_view *ret)
{
	struct cpupolicy_page_word w = cpupolicy_policy_word(&c->policy, vcpu);
	bool ejected = cpupolicy_policy_ejected(&c->policy, vcpu);

	*ret = (struct cpupolicy_view){
		.enabled = w.enabled && !ejected,
		.wanted = w.wanted,
		.ejected = ejected,
		.serial = w.serial,
		.grant = w.grant,
		.verdict = w.verdict,
		.observe = w.observe,
	};
}

void cpupolicy_generation(const struct cpupolicy *c, uint32_t *ret_epoch, uint32_t *ret_generation)
{
	uint64_t head = cpupolicy_policy_head(&c->policy);

	*ret_epoch = cpupolicy_page_epoch(head);
	*ret_generation = cpupolicy_page_generation(head);
}

uint32_t cpupolicy_confirmed(const struct cpupolicy *c)
{
	return c->confirmed;
}

void cpupolicy_confirm(struct cpupolicy *c)
{
	/* A page that was not announced yet is not applied, and the one before it is no session's any more. */
	if (c->policy_news)
		return;
	c->confirmed = cpupolicy_page_generation(c->announced);
	c->confirmed_epoch = cpupolicy_page_epoch(c->announced);
	cpupolicy_report_confirm(c);
}

/* ---- CPU_ON, CPU_OFF ---- */

static bool is_inactive(const struct cpupolicy *c)
{
	return c->run_state == CPUPOLICY_RUN_INACTIVE;
}

static void deny(struct cpupolicy *c, uint32_t vcpu, enum cpupolicy_reason reason)
{
	struct cpupolicy_verdict verdict = {.psci = CPUPOLICY_PSCI_DENIED, .reason = reason};

	cpupolicy_policy_record(&c->policy, vcpu, verdict);
	cpupolicy_report_denied(c, vcpu, reason);
}

/* The page says ask. Without anyone to ask, the page's own answer to silence holds. */
static enum cpupolicy_answer ask(struct cpupolicy *c, uint32_t caller, uint32_t target, uint32_t function,
				 enum cpupolicy_reason *ret_reason)
{
	struct cpupolicy_verdict verdict;

	if (c->state == CPUPOLICY_SESSION_REGISTERED && (c->features & CPUPOLICY_F_ASK)) {
		cpupolicy_session_ask(c, caller, target, function);
		*ret_reason = CPUPOLICY_REASON_NONE;
		return CPUPOLICY_ANSWER_ASKED;
	}
	verdict = cpupolicy_policy_timeout(&c->policy, target, is_inactive(c));
	*ret_reason = (enum cpupolicy_reason)verdict.reason;
	return verdict.psci == CPUPOLICY_PSCI_SUCCESS ? CPUPOLICY_ANSWER_ALLOW : CPUPOLICY_ANSWER_DENY;
}

enum cpupolicy_answer cpupolicy_cpu_on(struct cpupolicy *c, uint32_t caller, uint32_t target, uint32_t function,
				       enum cpupolicy_reason *ret_reason)
{
	enum cpupolicy_answer answer;

	answer = cpupolicy_policy_decide(&c->policy, target, is_inactive(c), ret_reason);
	if (answer == CPUPOLICY_ANSWER_ASKED) {
		if (c->asks[caller].used && c->asks[caller].target == target) {
			*ret_reason = CPUPOLICY_REASON_NONE;
			return CPUPOLICY_ANSWER_ASKED;
		}
		answer = ask(c, caller, target, function, ret_reason);
	}
	/* Decided here, whatever was asked before: a late answer would be to nobody. */
	if (answer != CPUPOLICY_ANSWER_ASKED)
		cpupolicy_session_forget_ask(c, caller);
	if (answer == CPUPOLICY_ANSWER_DENY)
		deny(c, target, *ret_reason);
	return answer;
}

void cpupolicy_abandon(struct cpupolicy *c, uint32_t caller)
{
	cpupolicy_session_forget_ask(c, caller);
}

static void report_power(struct cpupolicy *c, uint32_t vcpu, enum cpupolicy_power_event event,
			 enum cpupolicy_reason reason)
{
	struct cpupolicy_power power = {.vcpu = vcpu, .event = event, .reason = reason, .count = 1};

	cpupolicy_report_event(c, CPUPOLICY_POWER, &power);
}

bool cpupolicy_power_on(struct cpupolicy *c, uint32_t target, enum cpupolicy_reason reason)
{
	struct cpupolicy_verdict verdict = {.psci = CPUPOLICY_PSCI_SUCCESS, .reason = reason};

	if (!cpupolicy_policy_holds(&c->policy, target)) {
		deny(c, target, CPUPOLICY_REASON_PAGE);
		return false;
	}
	cpupolicy_policy_record(&c->policy, target, verdict);
	report_power(c, target, CPUPOLICY_POWER_ON, reason);
	return true;
}

void cpupolicy_power_off(struct cpupolicy *c, uint32_t vcpu)
{
	report_power(c, vcpu, CPUPOLICY_POWER_OFF, CPUPOLICY_REASON_NONE);
}

void cpupolicy_last_verdict(const struct cpupolicy *c, uint32_t vcpu, struct cpupolicy_verdict *ret,
			    uint64_t *ret_denied)
{
	*ret = c->policy.vcpu[vcpu].last;
	*ret_denied = c->policy.vcpu[vcpu].denied;
}

/* ---- what the guest does ---- */

void cpupolicy_ost(struct cpupolicy *c, uint32_t vcpu, uint32_t event, uint32_t status)
{
	struct cpupolicy_ost ost = {.vcpu = vcpu, .event = event, .status = status};

	cpupolicy_report_event(c, CPUPOLICY_OST, &ost);
}

void cpupolicy_ejected(struct cpupolicy *c, uint32_t vcpu, enum cpupolicy_eject_cause cause)
{
	struct cpupolicy_eject eject = {.vcpu = vcpu, .cause = cause};

	if (vcpu == 0 || vcpu >= c->identity.possible)
		return;
	cpupolicy_policy_mark(&c->policy, vcpu, cause == CPUPOLICY_EJECT_GUEST,
			      c->state == CPUPOLICY_SESSION_REGISTERING);
	cpupolicy_report_event(c, CPUPOLICY_EJECT, &eject);
}

void cpupolicy_run_state(struct cpupolicy *c, enum cpupolicy_run_state state)
{
	struct cpupolicy_run run = {.run_state = state};

	c->run_state = state;
	/* The guest runs here now: from its next registration on, this VMM is the VM's, not somebody who joins. */
	if (state != CPUPOLICY_RUN_INACTIVE && c->registered_at != 0)
		c->incoming = false;
	cpupolicy_report_event(c, CPUPOLICY_RUN_STATE, &run);
}

void cpupolicy_reset(struct cpupolicy *c, enum cpupolicy_reset_kind kind)
{
	struct cpupolicy_reset reset = {.kind = kind};

	for (uint32_t i = 0; i < c->identity.possible; i++) {
		struct cpupolicy_view view;

		cpupolicy_session_forget_ask(c, i);
		cpupolicy_view(c, i, &view);
		if (view.enabled && !view.wanted)
			cpupolicy_ejected(c, i, CPUPOLICY_EJECT_RESET);
	}
	cpupolicy_report_event(c, CPUPOLICY_RESET, &reset);
}

void cpupolicy_resync(struct cpupolicy *c)
{
	/* The registration that is to come says it all, unless it was composed already. */
	if (!cpupolicy_session_reports(c))
		return;
	c->resync = true;
	cpupolicy_session_wake(c, 0);
}

void cpupolicy_unregister(struct cpupolicy *c, enum cpupolicy_unregister_cause cause, int timeout_ms)
{
	struct cpupolicy_unregister unregister = {.cause = cause};
	struct cpupolicy_header header = {
		.request = CPUPOLICY_UNREGISTER,
		.size = sizeof(unregister),
		.seq = cpupolicy_session_next_seq(c, 0),
	};
	uint64_t deadline = deadline_in(timeout_ms);

	if (c->state == CPUPOLICY_SESSION_REGISTERED) {
		cpupolicy_channel_put(&c->channel, &header, &unregister, CPUPOLICY_CHANNEL_BUFFER);
		cpupolicy_channel_flush(&c->channel);
		while (!cpupolicy_channel_is_empty(&c->channel)) {
			struct pollfd pfd = {.fd = c->channel.fd, .events = POLLOUT};
			int left = remaining_ms(timeout_ms, deadline);

			if (left == 0)
				break;
			poll(&pfd, 1, left);
			cpupolicy_channel_flush(&c->channel);
		}
	}
	cpupolicy_session_end(c, "unregistered");
}

/* ---- migration and snapshots ---- */

void cpupolicy_save(const struct cpupolicy *c, struct cpupolicy_saved *ret)
{
	memcpy(ret->token, c->token, sizeof(ret->token));
	ret->epoch = c->epoch;
	if (c->policy.mapped > 0)
		ret->epoch = cpupolicy_page_epoch(cpupolicy_policy_head(&c->policy));
}

int cpupolicy_restore(struct cpupolicy *c, const struct cpupolicy_saved *saved)
{
	static const uint8_t none[CPUPOLICY_TOKEN_SIZE];

	if (c->registered_at != 0)
		return -EALREADY;
	if (memcmp(saved->token, none, sizeof(none)) == 0)
		return 0;
	memcpy(c->token, saved->token, sizeof(c->token));
	c->epoch = saved->epoch;
	c->incoming = true;
	c->hurry = c->state == CPUPOLICY_SESSION_REGISTERING;
	cpupolicy_session_retry(c);
	return 0;
}

void cpupolicy_restore_ejected(struct cpupolicy *c, uint32_t vcpu, bool ejected)
{
	if (vcpu == 0 || vcpu >= c->identity.possible)
		return;
	if (ejected)
		cpupolicy_policy_mark(&c->policy, vcpu, false, c->state == CPUPOLICY_SESSION_REGISTERING);
	/* A lost daemon may have acted on the mark already; the page that is left would still say enabled. */
	else if (c->local || c->state == CPUPOLICY_SESSION_REGISTERED)
		cpupolicy_policy_unmark(&c->policy, vcpu);
}

/* ---- without a daemon ---- */

int cpupolicy_local_begin(struct cpupolicy *c)
{
	if (c->state == CPUPOLICY_SESSION_REGISTERED)
		return -EBUSY;
	if (c->local)
		return 0;
	return go_local(c, "no daemon: switched to local policy");
}

int cpupolicy_local_set(struct cpupolicy *c, uint32_t vcpu, bool wanted)
{
	if (!c->local)
		return -EPERM;
	if (vcpu == 0 || vcpu >= c->identity.possible)
		return -EINVAL;
	cpupolicy_policy_set(&c->policy, vcpu, wanted);
	cpupolicy_session_wake(c, 0);
	return 0;
}

/* ---- names ---- */

const char *cpupolicy_reason_name(uint32_t reason)
{
	return cpupolicy_msg_reason_name(reason);
}

const char *cpupolicy_link_name(enum cpupolicy_link link)
{
	switch (link) {
	case CPUPOLICY_LINK_LOCAL:
		return "local";
	case CPUPOLICY_LINK_CONNECTING:
		return "connecting";
	case CPUPOLICY_LINK_REGISTERED:
		return "registered";
	case CPUPOLICY_LINK_REFUSED:
		return "refused";
	}
	return "unknown";
}
