/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/job.h"

#include <stddef.h>

/* UINT64_MAX is "none". */
static uint64_t add_time(uint64_t a, uint64_t b)
{
	return b < UINT64_MAX - 1 - a && a < UINT64_MAX - 1 ? a + b : UINT64_MAX - 1;
}

void job_start(struct job *j, uint64_t id, uint32_t from, uint32_t to, uint64_t timeout, bool paused, uint64_t now)
{
	*j = (struct job){
		.id = id,
		.from = from,
		.to = to,
		.result = JOB_RUNNING,
		.uid = UINT32_MAX,
		.stopped = paused,
		.deadline = add_time(now, timeout),
		.remaining = timeout,
	};
}

void job_pause(struct job *j, uint64_t now)
{
	if (j->id == 0 || j->stopped)
		return;
	j->remaining = j->deadline > now ? j->deadline - now : 0;
	j->stopped = true;
}

void job_continue(struct job *j, uint64_t now)
{
	if (j->id == 0 || !j->stopped)
		return;
	j->deadline = add_time(now, j->remaining);
	j->stopped = false;
}

uint64_t job_deadline(const struct job *j)
{
	if (j->id == 0 || j->result != JOB_RUNNING || j->stopped)
		return UINT64_MAX;
	return j->deadline;
}

enum job_result job_outcome(const struct job *j, bool expired)
{
	if (j->pending > 0) {
		if (!expired)
			return JOB_RUNNING;
		return j->settled > 0 ? JOB_PARTIAL : JOB_TIMEOUT;
	}
	if (j->refused == 0)
		return JOB_DONE;
	if (j->settled > 0)
		return JOB_PARTIAL;
	return j->forbidden ? JOB_GUEST_FORBIDDEN : JOB_GUEST_REFUSED;
}

const char *job_result_name(enum job_result result)
{
	static const char *const names[] = {
		[JOB_RUNNING] = "running",
		[JOB_DONE] = "done",
		[JOB_PARTIAL] = "partial",
		[JOB_GUEST_REFUSED] = "guest-refused",
		[JOB_GUEST_FORBIDDEN] = "guest-forbidden",
		[JOB_TIMEOUT] = "timeout",
		[JOB_SUPERSEDED] = "superseded",
		[JOB_DISCONNECTED] = "disconnected",
		[JOB_STORAGE] = "storage",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == JOB_RESULT_MAX + 1, "a name for each result");
	return (unsigned)result <= JOB_RESULT_MAX ? names[result] : "unknown";
}
