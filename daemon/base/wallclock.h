/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_WALLCLOCK_H
#define CPUPOLICYD_WALLCLOCK_H

/* What time of day it is, for the hours of usage; and the news that somebody set it. */

#include "daemon/core/usage.h"
#include "daemon/base/loop.h"

struct wallclock;

/* Both clocks at one moment. */
struct usage_clock wallclock_now(void);

/* `fn` runs on the loop when the clock was set. Where that cannot be watched, it never runs. */
int wallclock_new(struct wallclock **ret, struct loop *loop, loop_fn fn, void *userdata);
struct wallclock *wallclock_free(struct wallclock *wallclock);

#endif
