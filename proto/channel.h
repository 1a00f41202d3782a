/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPUPOLICY_CHANNEL_H
#define CPUPOLICY_CHANNEL_H

/*
 * A connection to the daemon: bytes out of a bounded buffer, replies and descriptors in. Never blocks, allocates once.
 *
 * What is put after cpupolicy_channel_hold() stays in the buffer until cpupolicy_channel_release(): what happens while
 * a registration is under way is sent after it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"

#define CPUPOLICY_CHANNEL_BUFFER 65536u

struct cpupolicy_channel {
	int epoll; /* borrowed */
	uint32_t tag;
	int fd; /* -1: closed */
	bool wants_write;
	bool deaf;   /* the peer reads no more; what it has said before is still to be read */
	uint8_t *tx; /* sent up to `from`, filled up to `end` */
	size_t from;
	size_t end;
	size_t held; /* where the held part begins; SIZE_MAX: nothing is held */
	uint8_t rx[4096];
	size_t rx_from;
	size_t rx_end;
	int fds[CPUPOLICY_MSG_REGISTER_FDS];
	size_t n_fds;
};

int cpupolicy_channel_init(struct cpupolicy_channel *ch, int epoll, uint32_t tag);
void cpupolicy_channel_done(struct cpupolicy_channel *ch);

int cpupolicy_channel_connect(struct cpupolicy_channel *ch, const char *path);
/* Takes the descriptor over, also on failure. */
int cpupolicy_channel_open(struct cpupolicy_channel *ch, int fd);
void cpupolicy_channel_close(struct cpupolicy_channel *ch);

/* Whether it fits: -ENOBUFS if the buffer would then hold more than `limit` bytes. */
int cpupolicy_channel_put(struct cpupolicy_channel *ch, const struct cpupolicy_header *header, const void *payload,
			  size_t limit);
void cpupolicy_channel_hold(struct cpupolicy_channel *ch);
void cpupolicy_channel_release(struct cpupolicy_channel *ch);
/* Sends what it can, watches for room for the rest. */
void cpupolicy_channel_flush(struct cpupolicy_channel *ch);
bool cpupolicy_channel_is_empty(const struct cpupolicy_channel *ch);

/* One read. 1: there may be more, 0: drained, -ECONNRESET: the end, other errors: the peer misbehaves. Descriptors are
 * accepted up to the number that a REGISTER reply carries. */
int cpupolicy_channel_receive(struct cpupolicy_channel *ch, const char **ret_why);
/* Takes the next whole reply out of what was read. 1, 0: none yet, -EPROTO. */
int cpupolicy_channel_next(struct cpupolicy_channel *ch, struct cpupolicy_header *ret_header,
			   union cpupolicy_msg_reply *ret_reply, const char **ret_why);
/* A descriptor out of those received; the caller's from here on. -1 if there is none at that place. */
int cpupolicy_channel_take_fd(struct cpupolicy_channel *ch, size_t i);
size_t cpupolicy_channel_fds(const struct cpupolicy_channel *ch);
void cpupolicy_channel_close_fds(struct cpupolicy_channel *ch);

#endif
