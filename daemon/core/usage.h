/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_USAGE_H
#define CPUPOLICYD_USAGE_H

/*
 * What a VM is billed for: the integral of its enabled vCPUs over time, parted into what is within its guarantee and what
 * is above. Pure. Durations are of a clock that counts suspend and does not step; the wall clock only says to which hour
 * they belong, so that a step of it moves usage to another hour but neither makes nor loses any.
 *
 * A VM has one open row; it ends at each wall-clock hour, and when class or tenant change. Rows of a VM are numbered and
 * hold absolute figures: writing one again, or a newer state of it, replaces it, so nothing is billed twice.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/class.h"

#define USAGE_HOUR UINT64_C(3600000000000) /* ns */

/* One moment on both clocks, ns. `real` since 1970. */
struct usage_clock {
	uint64_t boot;
	uint64_t real;
};

struct usage_row {
	uint64_t number;        /* of this VM's rows, from 1 */
	uint64_t begin;         /* wall clock, ns: all of it is within one hour, begin / USAGE_HOUR */
	uint64_t end;           /* wall clock, ns: the last moment that it has; with gaps, if the VM was paused */
	uint64_t guaranteed_ns; /* vCPU-ns */
	uint64_t burst_ns;      /* vCPU-ns */
};

struct usage {
	uint64_t at;            /* up to when all is counted (boot clock) */
	struct usage_row row;   /* open; number 0: none yet */
	uint64_t last;          /* number of the last row, also before the first cut */
	uint64_t guaranteed_ns; /* in this life of the daemon, all rows: for metrics */
	uint64_t burst_ns;
};

/* Told of a row that ended; only of rows that have usage. */
typedef void (*usage_row_fn)(const struct usage_row *row, void *userdata);

/* From u->at to `now`, `enabled` vCPUs were enabled. Ends the row at each hour that `clock` says began in between. */
void usage_advance(struct usage *u, const struct usage_clock *clock, uint32_t guaranteed, uint32_t enabled,
		   uint64_t now, usage_row_fn fn, void *userdata);
/* The time up to `now` is not billed: the VM was stopped, or paused. The row ends at its hour all the same. */
void usage_skip(struct usage *u, const struct usage_clock *clock, uint64_t now, usage_row_fn fn, void *userdata);
/* Class or tenant change now: what follows goes into another row. */
void usage_end_row(struct usage *u, usage_row_fn fn, void *userdata);

/* The next hour of the wall clock after `now`, on the boot clock. */
uint64_t usage_next_hour(const struct usage_clock *clock, uint64_t now);
/* Micro-units, rounded down; saturates. Sum the vCPU-ns first: rounding once is exact, rounding rows is not. */
uint64_t usage_cost(uint64_t guaranteed_ns, uint64_t burst_ns, const struct class_price *price);

#endif
