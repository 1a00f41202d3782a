/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/credit.h"

#include "proto/cpupolicy-proto.h"

static int64_t clip(int64_t value, int64_t cap)
{
	if (value > cap)
		value = cap;
	return value > CREDIT_MIN ? value : CREDIT_MIN;
}

static int64_t threshold(const struct class_burst *burst)
{
	return burst->resume > 0 ? burst->resume : 1;
}

static void judge(struct credit *c, const struct class_burst *burst)
{
	if (c->balance <= 0)
		c->spent = true;
	else if (c->balance >= threshold(burst) || c->balance >= burst->cap)
		c->spent = false;
}

void credit_open(struct credit *c, const struct class_burst *burst, uint64_t now)
{
	if (now > c->at)
		c->at = now;
	if (!burst->metered)
		return;
	if (!c->opened) {
		c->balance = burst->initial;
		/* What a class gives to begin with may be used, even below `resume`. */
		c->spent = false;
	}
	c->opened = true;
	c->balance = clip(c->balance, burst->cap);
	judge(c, burst);
}

void credit_set(struct credit *c, const struct class_burst *burst, int64_t balance, bool spent, uint64_t now)
{
	c->at = now;
	c->opened = true;
	c->spent = spent;
	c->balance = clip(balance, burst->metered ? burst->cap : CLASS_CREDIT_MAX);
	if (burst->metered)
		judge(c, burst);
}

/* |rate| <= CPUPOLICY_MAX_VCPUS: where the product could leave the range of the balance, that is at its bound. */
static int64_t accrue(int64_t balance, int64_t rate, uint64_t elapsed, int64_t cap)
{
	uint64_t magnitude = (uint64_t)(rate < 0 ? -rate : rate);
	uint64_t most = (uint64_t)CLASS_CREDIT_MAX * 2;

	_Static_assert(CLASS_CREDIT_MAX <= INT64_MAX / 4, "a balance and a clipped change fit together");
	if (rate == 0)
		return balance;
	if (elapsed > most / magnitude)
		return rate > 0 ? cap : CREDIT_MIN;
	return clip(balance + rate * (int64_t)elapsed, cap);
}

void credit_advance(struct credit *c, const struct class_burst *burst, uint32_t guaranteed, uint32_t enabled,
		    uint64_t now)
{
	uint64_t elapsed;

	if (now <= c->at)
		return;
	elapsed = now - c->at;
	c->at = now;
	if (!burst->metered)
		return;
	c->balance = accrue(c->balance, (int64_t)guaranteed - enabled, elapsed, burst->cap);
	judge(c, burst);
}

void credit_skip(struct credit *c, uint64_t now)
{
	if (now > c->at)
		c->at = now;
}

bool credit_may_burst(const struct credit *c, const struct class_burst *burst)
{
	return !burst->metered || !c->spent;
}

/* When a change of `distance` (> 0) at `rate` per ns is done. */
static uint64_t reach(uint64_t at, uint64_t distance, uint64_t rate)
{
	uint64_t wait = distance / rate + (distance % rate != 0);

	return wait < UINT64_MAX - at ? at + wait : UINT64_MAX;
}

uint64_t credit_deadline(const struct credit *c, const struct class_burst *burst, uint32_t guaranteed, uint32_t enabled)
{
	int64_t goal = threshold(burst) < burst->cap ? threshold(burst) : burst->cap;

	if (!burst->metered)
		return UINT64_MAX;
	if (!c->spent)
		return enabled > guaranteed ? reach(c->at, (uint64_t)c->balance, enabled - guaranteed) : UINT64_MAX;
	/* A cap of zero is never above zero. */
	if (enabled >= guaranteed || goal <= 0)
		return UINT64_MAX;
	return reach(c->at, (uint64_t)(goal - c->balance), guaranteed - enabled);
}
