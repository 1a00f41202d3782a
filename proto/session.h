/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPUPOLICY_SESSION_H
#define CPUPOLICY_SESSION_H

/*
 * The life of the connection: connect, greet, register, be lost, back off, connect again; and the asks that wait for it.
 *
 *   OFF --start--> WAITING --connected--> GREETING --HELLO reply--> REGISTERING --REGISTER reply--> REGISTERED
 *                  ^  |                      |                          |                              |
 *                  +--+--- backoff <---------+--- end, refusal, --------+----- nonsense, silence ------+
 *
 * A session on a descriptor that was handed over is OFF once it ended. Everything happens in
 * cpupolicy_session_dispatch(), which the caller runs when the epoll descriptor is readable: the socket, the doorbell and
 * a timer are behind it. The timer is armed for the earliest deadline; it may be early, never late.
 */

#include <sys/un.h>

#include "channel.h"
#include "libcpupolicy.h"
#include "policy.h"

/* What an event of the epoll descriptor is about. */
enum {
	CPUPOLICY_SESSION_TAG_TIMER,
	CPUPOLICY_SESSION_TAG_CHANNEL,
	CPUPOLICY_SESSION_TAG_DOORBELL,
};

enum cpupolicy_session_state {
	CPUPOLICY_SESSION_OFF,
	CPUPOLICY_SESSION_WAITING,
	CPUPOLICY_SESSION_GREETING,
	CPUPOLICY_SESSION_REGISTERING,
	CPUPOLICY_SESSION_REGISTERED,
};

/* One for each caller. */
struct cpupolicy_ask_slot {
	bool used;
	uint32_t target;
	uint32_t seq;
	uint64_t deadline;
};

/* Denials that were not reported yet, of one target. */
struct cpupolicy_denials {
	uint32_t count;
	enum cpupolicy_reason reason;
	uint64_t quiet_until; /* the next report is due then */
};

struct cpupolicy {
	struct cpupolicy_identity identity; /* name and mpidrs are ours */
	struct cpupolicy_ops ops;
	void *opaque;

	int epoll;
	int timer;
	uint64_t armed; /* when the timer expires, 0: it does not */
	bool dispatching;

	enum cpupolicy_session_state state;
	bool started;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* empty: no reconnection */
	struct cpupolicy_channel channel;
	int doorbell;
	uint32_t seq;
	uint32_t awaited; /* sequence number of HELLO or REGISTER */
	uint64_t retry_at;
	uint64_t retry_delay;
	uint64_t deadline; /* of the handshake */
	uint64_t registered_at;
	uint64_t random;

	uint64_t features;
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	uint32_t epoch; /* restored, or of the last registration; the page's own may be newer */
	bool incoming;  /* to join as the target of a migration, until the guest runs here */
	bool joining;   /* the registration under way says so */
	bool hurry;     /* the token came while a registration without it was under way: its refusal says nothing */
	enum cpupolicy_run_state run_state;

	enum cpupolicy_link link;
	char reason[CPUPOLICY_ERROR_SIZE + 64];
	bool link_news;
	bool local; /* our own page rules; a daemon that comes back ends it */

	struct cpupolicy_policy policy;
	bool policy_news;
	uint64_t announced; /* head of the page at the last policy_changed */
	uint32_t confirmed;
	uint32_t confirmed_epoch; /* 0: nothing was confirmed in a session */

	struct cpupolicy_ask_slot *asks;
	uint32_t asks_used;
	uint32_t replies_due; /* to ASKs that were sent, abandoned ones included */

	struct cpupolicy_denials *denials;
	bool denials_pending;
	bool resync;     /* a STATE is due */
	bool overflowed; /* events were lost: none is sent until that STATE is */
};

void cpupolicy_session_init(struct cpupolicy *c);
/* With a path, or with the channel open. */
void cpupolicy_session_start(struct cpupolicy *c);
/* There is something new to say to a daemon that was to be tried again later. */
void cpupolicy_session_retry(struct cpupolicy *c);

uint64_t cpupolicy_session_now(void);
/* Whether the VM is registered, or as good as: events are sent, or held until it is. */
bool cpupolicy_session_reports(const struct cpupolicy *c);
/* Makes dispatch run no later than then; 0: as soon as may be. */
void cpupolicy_session_wake(struct cpupolicy *c, uint64_t at);
uint32_t cpupolicy_session_next_seq(struct cpupolicy *c, uint32_t caller);

int cpupolicy_session_dispatch(struct cpupolicy *c);
/* Ends the connection for good. */
void cpupolicy_session_end(struct cpupolicy *c, const char *reason);
void cpupolicy_session_set_link(struct cpupolicy *c, enum cpupolicy_link link, const char *reason);

/* Sends an ASK, or leaves it to its timeout where it cannot be sent. */
void cpupolicy_session_ask(struct cpupolicy *c, uint32_t caller, uint32_t target, uint32_t function);
void cpupolicy_session_forget_ask(struct cpupolicy *c, uint32_t caller);

#endif
