/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_RATE_H
#define CPUPOLICYD_RATE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A token bucket, exact in integers: no drift however often it is asked, no clock of its own. Times are nanoseconds of
 * one clock that never steps back; an earlier `now` than the last one counts as the last one.
 */
struct rate_limit {
	uint32_t per_second; /* 0: no limit */
	uint32_t burst;      /* at least 1 where there is a limit */
};

struct rate {
	uint64_t at;     /* when `tokens` was right */
	uint64_t tokens; /* in units of 1 / NSEC_PER_SEC of an operation: burst * 1e9 fits by config's bounds */
};

void rate_init(struct rate *r, const struct rate_limit *limit, uint64_t now);
/* Takes one operation if there is one. */
bool rate_take(struct rate *r, const struct rate_limit *limit, uint64_t now);
/* When the next operation is there: `now` or later. */
uint64_t rate_next(const struct rate *r, const struct rate_limit *limit, uint64_t now);

#endif
