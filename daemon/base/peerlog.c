/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/base/peerlog.h"

#include <stdio.h>

#define BURST 20u

bool peerlog_open(struct peerlog *log, uid_t uid, uint64_t now)
{
	uint32_t dropped = 0;

	if (!log_gate_open(&log->gates[uid % PEERLOG_GATES], BURST, now, &dropped))
		return false;
	if (dropped > 0)
		log_warning("left out %u lines that were caused by uid %u or its like", dropped, (unsigned)uid);
	return true;
}

const struct log_field *peerlog_fields(struct peerlog_fields *f, const struct peer *peer, const struct log_field *own)
{
	size_t n = 0;

	while (own && n < PEERLOG_OWN && own[n].name) {
		f->list[n] = own[n];
		n++;
	}
	snprintf(f->uid, sizeof(f->uid), "%u", (unsigned)peer->uid);
	snprintf(f->pid, sizeof(f->pid), "%d", (int)peer->pid);
	f->list[n++] = (struct log_field){"UID", f->uid};
	f->list[n++] = (struct log_field){"PEER_PID", peer->pid > 0 ? f->pid : NULL};
	f->list[n++] = (struct log_field){"PEER_LABEL", peer->label};
	f->list[n++] = (struct log_field){"PEER_UNIT", peer->unit};
	f->list[n++] = (struct log_field){"PEER_SLICE", peer->slice};
	f->list[n++] = (struct log_field){"PEER_MACHINE", peer->machine};
	f->list[n] = (struct log_field){NULL, NULL};
	return f->list;
}
