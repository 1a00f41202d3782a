/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_SESSION_PRIVATE_H
#define CPUPOLICYD_SESSION_PRIVATE_H

/* What session.c (input, and what it means) and session_output.c (replies) share. */

#include "daemon/base/peerlog.h"
#include "daemon/vmm/session.h"
#include "proto/message.h"

#define SESSION_RX_SIZE 16384u /* per receive */
#define SESSION_TX_SIZE (SESSION_RX_SIZE + 1024u)

struct session_hub {
	struct loop *loop;
	struct host *host;
	const struct config *config;
	struct service *service; /* may be NULL */
	bool stopping;
	uint8_t slots[SERVICE_SLOTS_MAX / 8]; /* in use, a bit each */
	uint32_t next_slot;                   /* all before it are in use */
	struct peerlog peerlog;
	struct session *current; /* whose turn it is, and whose replies are in tx */
	size_t tx_length;
	uint32_t asks; /* of this turn */
	union cpupolicy_msg_payload payload;
	uint8_t rx[SESSION_RX_SIZE];
	uint8_t tx[SESSION_TX_SIZE];
};

struct session {
	struct session_hub *hub;
	const struct session_ops *ops;
	void *userdata;
	struct loop_io *io;
	struct loop_timer *resume; /* made when it first is over its rate */
	struct host_session *host_session;
	uint8_t *held;  /* received, not handled yet */
	uint8_t *queue; /* to be sent */
	uint32_t held_length;
	uint32_t queue_length;
	struct rate rate;
	struct peer peer;
	struct host_voucher *voucher;  /* NULL: the peer came by itself, or has registered */
	bool opened;                   /* it came by one */
	uint64_t inodes[HANDOVER_FDS]; /* of what is kept */
	int32_t slot;                  /* where it is; -1: nothing is */
	int fd;
	uint32_t register_seq;
	uint8_t features;
	uint8_t attempts;
	uint8_t state; /* enum cpupolicy_msg_state */
	uint8_t end;   /* enum host_end */
	bool registering;
	bool over_rate;
	bool busy;
	bool dead;
};

/* ---- session.c ---- */

/* A line that says why it is hung up on. */
void session_log_end(struct session *s, int level, const char *why);

/* The session goes on with what is held, in a turn of its own. */
void session_resume(struct session *s);
extern const struct host_link_ops session_link_ops;

/* ---- session_keep.c ---- */

/* It is registered: a successor of this daemon may need its descriptors. */
void session_keep(struct session *s);
/* It ends; `forget`: and needs them no more. */
void session_unkeep(struct session *s, bool forget);

/* ---- session_output.c; whatever cannot be sent leaves the session dead ---- */

void session_output_reply(struct session *s, const struct cpupolicy_header *request, const void *payload);
void session_output_error(struct session *s, const struct cpupolicy_header *request, enum cpupolicy_error_code code,
			  const char *why);
/* Now, behind what was gathered, with two descriptors, which stay the caller's. */
void session_output_reply_with_descriptors(struct session *s, const struct cpupolicy_header *request,
					   const void *payload, const int fds[2]);
/* Sends what the turn has gathered. */
void session_output_flush(struct session *s);
/* The socket takes more. */
void session_output_continue(struct session *s);

#endif
