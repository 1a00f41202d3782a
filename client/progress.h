/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_PROGRESS_H
#define CPUCTL_PROGRESS_H

/* What a command waits for, on standard error: one line that changes on a terminal, else a line per change. */

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool live;  /* a terminal */
	bool quiet; /* nothing is to be said */
	uint64_t since;
	char *last;
};

/* `quiet`: say nothing unless a person looks at it. */
void progress_init(struct progress *p, bool quiet);
void progress_say(struct progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* When the line is to be said again, for the seconds in it. Microseconds of CLOCK_MONOTONIC, UINT64_MAX: never. */
uint64_t progress_next(const struct progress *p);
/* The terminal's line is empty again. */
void progress_end(struct progress *p);

#endif
