/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/base/peerlog.h"

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
