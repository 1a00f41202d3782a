/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_SESSION_H
#define CPUPOLICYD_SESSION_H

/*
 * One connection of a VMM: reads, checks and answers the messages of the protocol and passes to the host what they
 * mean. What the peer does wrong ends this connection and nothing else. All bounds are here: bytes and messages per
 * turn, messages per second, input that is held, output that the peer does not fetch, attempts to register.
 */

#include <stdbool.h>

#include "daemon/settings/config.h"
#include "daemon/host/host.h"
#include "daemon/base/loop.h"
#include "daemon/base/peer.h"
#include "daemon/base/service.h"
#include "daemon/handover/handover.h"

/* What sessions share: buffers for the one whose turn it is. An idle session has none of its own. */
struct session_hub;

/* `service`: keeps what a successor of this daemon needs to go on with registered sessions; NULL: nobody does. It outlives
 * the hub. */
int session_hub_new(struct session_hub **ret, struct loop *loop, struct host *host, const struct config *config,
		    struct service *service);
struct session_hub *session_hub_free(struct session_hub *hub);

struct session;

struct session_ops {
	/* It has become the session of a VM. */
	void (*registered)(struct session *session, void *userdata);
	/* It has hung up and is freed right after this. */
	void (*ended)(struct session *session, void *userdata);
};

/* Takes over the connected, non-blocking socket and the contents of `peer`, on success only. With a voucher (which is copied)
 * the peer is who asked for the connection, until messages come: their senders are the peer, by the credentials that the
 * kernel attaches to what comes on a socket with SO_PASSCRED. */
int session_new(struct session **ret, struct session_hub *hub, int fd, struct peer *peer,
		const struct host_voucher *voucher, const struct session_ops *ops, void *userdata);
/* Hangs up without a word, for reasons of ours: `ended` is not called, and a VM is not taken for lost. */
struct session *session_free(struct session *session);

const struct peer *session_peer(const struct session *session);

/* From here on none of the hub's sessions reads or handles anything; replies still go out. Each is told by session_stop(). */
void session_hub_stop(struct session_hub *hub);
void session_stop(struct session *session);
/* What a successor needs; what it owns is the caller's to clear. False: it has to register anew. The session is of no use
 * any more. */
bool session_hand_over(struct session *session, struct handover_session *ret);
/* Goes on where that left off, with the VM that the host took over. Takes the connection and the bytes, on success only. */
int session_take_over(struct session **ret, struct session_hub *hub, struct handover_session *from,
		      const struct session_ops *ops, void *userdata);

/* A registration is under way: the daemon's turn, not the peer's. */
bool session_is_registering(const struct session *session);

#endif
