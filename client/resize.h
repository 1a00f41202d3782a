/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_RESIZE_H
#define CPUCTL_RESIZE_H

/*
 * One resize, from the request to its end, whatever happens on the way: the daemon may restart, and so may the bus. Asking
 * twice for the same count is harmless, so a request whose reply was lost is made again; a job whose end was missed is
 * looked up in the VM's record.
 */

#include <stdbool.h>
#include <stdint.h>

#include "client/connection.h"
#include "client/progress.h"
#include "daemon/core/cpulist.h"

enum resize_end {
	RESIZE_ENDED,       /* `result` says how the job ended */
	RESIZE_NOT_ASKED,   /* there is no job; the error has been printed, `outcome` is for the exit status */
	RESIZE_GAVE_UP,     /* `until` came first */
	RESIZE_INTERRUPTED, /* by a signal */
};

struct resize_removed {
	uint64_t job;
	char result[32];
};

struct resize {
	struct connection *c;
	struct progress *progress;
	struct vm_info vm; /* as it is */
	uint32_t count;
	uint32_t millis; /* of CPU time that is asked for, and takes `count` vCPUs; 0: none */
	bool online;     /* wait for added vCPUs to be online */
	uint64_t until;

	uint64_t job;         /* 0: not known yet */
	char result[32];      /* "": not ended */
	struct cpulist added; /* by the job */
	bool all_online;
	int outcome;

	/* inside */
	struct cpulist before;
	sd_bus_slot *call;
	bool asked;                       /* a request is under way */
	bool away;                        /* the daemon is not on the bus */
	char *waits;                      /* why the job waits for more than its guest; NULL: it does not */
	bool explain;                     /* that is to be asked for */
	bool look;                        /* the VM's record is to be read: signals may have been missed */
	bool failed;                      /* `outcome` is set */
	bool stale;                       /* the record does not know the job any more */
	struct resize_removed removed[4]; /* ended before the reply named ours */
	unsigned n_removed;
};

/* `vm` is taken over. */
void resize_init(struct resize *z, struct connection *c, struct progress *progress, struct vm_info *vm, uint32_t count);
enum resize_end resize_run(struct resize *z);
void resize_clear(struct resize *z);

#endif
