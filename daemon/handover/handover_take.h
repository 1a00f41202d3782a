/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_HANDOVER_TAKE_H
#define CPUPOLICYD_HANDOVER_TAKE_H

/* What the last daemon left with the service manager, checked: the handover, and the descriptors of each session. */

#include "daemon/base/peer.h"
#include "daemon/base/service.h"
#include "daemon/handover/handover.h"

/*
 * NULL: there is nothing to go on with, and why is in the log. Else the sessions whose descriptors are all there and are
 * what they should be; of the others they are closed and not kept any more, so that their VMMs see the end of them and
 * reconnect. What is kept after this is of a session of *ret.
 */
void handover_take(struct handover **ret, struct service *service, const char *state_directory);

/* Who is at the other end of its connection: who registered, as far as the kernel can tell. -EPERM: it says otherwise. */
int handover_peer(struct peer *ret, const struct handover_session *session);

/* This one does not fit after all: its descriptors are closed and not kept any more. */
void handover_drop(struct service *service, struct handover_session *session, const char *why);
/* It has not been dropped, nor taken. */
static inline bool handover_is_there(const struct handover_session *session)
{
	return session->fds[HANDOVER_CONNECTION] >= 0;
}

#endif
