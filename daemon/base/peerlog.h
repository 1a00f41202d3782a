/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_PEERLOG_H
#define CPUPOLICYD_PEERLOG_H

/*
 * Log gates by user id: a peer that hangs up and connects again meets the gate it left behind, so lines per user are
 * bounded however many connections it makes. Users may share a gate; then they share its bound.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/log.h"
#include "daemon/base/peer.h"

#define PEERLOG_GATES 64u

/* Zeroed: usable. */
struct peerlog {
	struct log_gate gates[PEERLOG_GATES];
};

/* True: log this line, which `uid` caused. Says itself how many were left out before it. */
bool peerlog_open(struct peerlog *log, uid_t uid, uint64_t now);

/* Who it was, as the fields of a line; for as long as both are there. */
#define PEERLOG_OWN 3u
struct peerlog_fields {
	char uid[16];
	char pid[16];
	struct log_field list[PEERLOG_OWN + 7];
};
/* `own`: those of the line itself, at most PEERLOG_OWN, ending with a NULL name; may be NULL. */
const struct log_field *peerlog_fields(struct peerlog_fields *f, const struct peer *peer, const struct log_field *own);

#endif
