/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/usage.h"

#include <stddef.h>

/* The wall clock at a moment of the boot clock. A moment before the pair may lie before 1970 on a clock not set yet. */
static uint64_t wall(const struct usage_clock *clock, uint64_t at)
{
	uint64_t back;

	if (at >= clock->boot)
		return clock->real + (at - clock->boot);
	back = clock->boot - at;
	return clock->real > back ? clock->real - back : 0;
}

uint64_t usage_next_hour(const struct usage_clock *clock, uint64_t now)
{
	return now + (USAGE_HOUR - wall(clock, now) % USAGE_HOUR);
}

void usage_end_row(struct usage *u, usage_row_fn fn, void *userdata)
{
	if (u->row.number == 0)
		return;
	if ((u->row.guaranteed_ns > 0 || u->row.burst_ns > 0) && fn)
		fn(&u->row, userdata);
	u->row = (struct usage_row){0};
}

static void begin_row(struct usage *u, uint64_t begin)
{
	u->row = (struct usage_row){.number = ++u->last, .begin = begin, .end = begin};
}

/* A part of time that does not reach over the end of an hour, unless the wall clock was set. */
static void count(struct usage *u, const struct usage_clock *clock, uint64_t guaranteed, uint64_t burst, uint64_t until,
		  usage_row_fn fn, void *userdata)
{
	uint64_t begin = wall(clock, u->at), elapsed = until - u->at;

	if (u->row.number != 0 && u->row.begin / USAGE_HOUR != begin / USAGE_HOUR)
		usage_end_row(u, fn, userdata);
	if (guaranteed > 0 || burst > 0) {
		if (u->row.number == 0)
			begin_row(u, begin);
		u->row.guaranteed_ns += guaranteed * elapsed;
		u->row.burst_ns += burst * elapsed;
		u->guaranteed_ns += guaranteed * elapsed;
		u->burst_ns += burst * elapsed;
	}
	if (u->row.number != 0)
		u->row.end = wall(clock, until);
	u->at = until;
}

void usage_advance(struct usage *u, const struct usage_clock *clock, uint32_t guaranteed, uint32_t enabled,
		   uint64_t now, usage_row_fn fn, void *userdata)
{
	uint32_t within = enabled < guaranteed ? enabled : guaranteed;

	while (u->at < now) {
		uint64_t hour = usage_next_hour(clock, u->at);

		count(u, clock, within, enabled - within, hour < now ? hour : now, fn, userdata);
	}
	/* At the hour's end, not at the next cut: who reads the rows of an hour that is over has them all. */
	if (u->row.number != 0 && wall(clock, u->at) / USAGE_HOUR != u->row.begin / USAGE_HOUR)
		usage_end_row(u, fn, userdata);
}

void usage_skip(struct usage *u, const struct usage_clock *clock, uint64_t now, usage_row_fn fn, void *userdata)
{
	if (now > u->at)
		u->at = now;
	if (u->row.number != 0 && wall(clock, u->at) / USAGE_HOUR != u->row.begin / USAGE_HOUR)
		usage_end_row(u, fn, userdata);
}

uint64_t usage_cost(uint64_t guaranteed_ns, uint64_t burst_ns, const struct class_price *price)
{
	unsigned __int128 sum;

	if (!price->given)
		return 0;
	sum = (unsigned __int128)guaranteed_ns * price->guaranteed + (unsigned __int128)burst_ns * price->burst;
	sum /= USAGE_HOUR;
	return sum < UINT64_MAX ? (uint64_t)sum : UINT64_MAX;
}
