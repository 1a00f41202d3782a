/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/rate.h"

/* One operation, in the unit of `tokens`: what a limit of one per second earns in a second's nanoseconds. */
#define OPERATION UINT64_C(1000000000)

static uint64_t capacity(const struct rate_limit *limit)
{
	/* Less than 2^62 whatever the burst. */
	return (limit->burst > 0 ? limit->burst : 1) * OPERATION;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* What there is at `now`. The product is formed only where it is known to stay below the capacity. */
static struct rate refill(const struct rate *r, const struct rate_limit *limit, uint64_t now)
{
	uint64_t cap = capacity(limit), missing, elapsed;
	struct rate x = *r;

	if (now > x.at) {
		elapsed = now - x.at;
		x.at = now;
		missing = x.tokens < cap ? cap - x.tokens : 0;
		if (elapsed >= divide_up(missing, limit->per_second))
			x.tokens = cap;
		else
			x.tokens += elapsed * limit->per_second;
	}
	/* A limit that was lowered since holds at once. */
	if (x.tokens > cap)
		x.tokens = cap;
	return x;
}

void rate_init(struct rate *r, const struct rate_limit *limit, uint64_t now)
{
	*r = (struct rate){.at = now, .tokens = limit->per_second > 0 ? capacity(limit) : 0};
}

bool rate_take(struct rate *r, const struct rate_limit *limit, uint64_t now)
{
	if (limit->per_second == 0)
		return true;
	*r = refill(r, limit, now);
	if (r->tokens < OPERATION)
		return false;
	r->tokens -= OPERATION;
	return true;
}

uint64_t rate_next(const struct rate *r, const struct rate_limit *limit, uint64_t now)
{
	struct rate x;
	uint64_t wait;

	if (limit->per_second == 0)
		return now;
	x = refill(r, limit, now);
	if (x.tokens >= OPERATION)
		return now;
	wait = divide_up(OPERATION - x.tokens, limit->per_second);
	return wait < UINT64_MAX - x.at ? x.at + wait : UINT64_MAX;
}
