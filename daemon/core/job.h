/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_JOB_H
#define CPUPOLICYD_JOB_H

#include <stdbool.h>
#include <stdint.h>

/* How a resize ended. The names on the bus are in job.c; the numbers are stored: append only. */
enum job_result {
	JOB_RUNNING = 0,
	JOB_DONE = 1,
	JOB_PARTIAL = 2,         /* some vCPUs, not all */
	JOB_GUEST_REFUSED = 3,   /* _OST: device busy, or the insertion failed */
	JOB_GUEST_FORBIDDEN = 4, /* _OST: the guest's administrator forbade it */
	JOB_TIMEOUT = 5,
	JOB_SUPERSEDED = 6,   /* by a later request for the same VM */
	JOB_DISCONNECTED = 7, /* the VM was not running, or its VMM went away */
	JOB_STORAGE = 8,      /* could not be made durable: as if never asked */
	JOB_RESULT_MAX = JOB_STORAGE,
};

/* One resize. Its deadline stops while the VM is paused. */
struct job {
	uint64_t id; /* 0: none */
	uint32_t from;
	uint32_t to;
	enum job_result result;
	uint32_t uid;     /* who asked; (uint32_t)-1: not known */
	uint32_t pending; /* vCPUs that the guest still has to act on */
	uint32_t settled; /* vCPUs that are as asked */
	uint32_t refused; /* vCPUs for which the guest refused or was forbidden */
	bool forbidden;   /* one of the refusals was by the guest's administrator */
	bool online;      /* ended done: every vCPU that was added is online, not only acknowledged */
	bool stopped;     /* the clock stands: `remaining` holds, `deadline` does not */
	uint64_t deadline;
	uint64_t remaining;
};

void job_start(struct job *j, uint64_t id, uint32_t from, uint32_t to, uint64_t timeout, bool paused, uint64_t now);
void job_pause(struct job *j, uint64_t now);
void job_continue(struct job *j, uint64_t now);
/* UINT64_MAX if no job is in flight or its clock stands. */
uint64_t job_deadline(const struct job *j);
/* How a job with these tallies ends when nothing is pending, or (`expired`) its time is up; JOB_RUNNING: not yet. */
enum job_result job_outcome(const struct job *j, bool expired);

const char *job_result_name(enum job_result result); /* "done", "guest-refused", ... */

#endif
