/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_LISTENER_H
#define CPUPOLICYD_LISTENER_H

/* The VMM socket: accepts, takes the peer's credentials, applies the quotas for strangers, starts a session (session.h). */

#include "daemon/settings/config.h"
#include "daemon/host/host.h"
#include "daemon/base/loop.h"

struct listener;

/* Takes the socket that the service manager passed, or binds config->socket (a stale socket file is replaced; the caller
 * holds the state directory's lock). `service` outlives it; NULL: there is none. On failure *ret_error is a message to
 * print and free. */
int listener_new(struct listener **ret, struct loop *loop, struct host *host, const struct config *config,
		 struct service *service, char **ret_error);
/* A connection without a socket file: *ret_fd is the other end, for a VMM that the voucher speaks of. It is a stranger like
 * any, of whoever asked for it. -EUSERS: too many of them. */
int listener_open(struct listener *listener, const struct host_voucher *voucher, int *ret_fd);
struct listener *listener_free(struct listener *listener);

/* Goes on with the sessions of the last daemon that the host went on with, and lets go of all others; how many. */
size_t listener_take_over(struct listener *listener, struct handover *handover);
/* Accepts nobody, reads nothing any more; replies still go out. */
void listener_stop(struct listener *listener);
/* After that: all sessions that a successor can go on with; how many. They are of no use any more. */
size_t listener_hand_over(struct listener *listener, struct handover_writer *writer);

#endif
