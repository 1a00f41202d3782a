/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_CREDIT_H
#define CPUPOLICYD_CREDIT_H

/*
 * Burst credit of one VM: exact integers, pure. The balance changes by (guaranteed - enabled) vCPU-ns each ns, and stays
 * at or below the class's cap. It goes below zero while a guest does not give back what it cannot pay for any more: that
 * is owed, and earned back before anything else.
 *
 * Who reaches zero is `spent`: it may not burst until the balance is at `resume` again, so that it does not go back and
 * forth around zero. A VM that runs at its guarantee neither earns nor spends.
 *
 * Times are ns of one clock that never steps back; an earlier `now` than the last one counts as the last one.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/class.h"

/* The balance never falls below this; what would be owed beyond it is forgiven. */
#define CREDIT_MIN (-CLASS_CREDIT_MAX)

struct credit {
	int64_t balance; /* vCPU-ns, CREDIT_MIN .. cap */
	uint64_t at;     /* when `balance` was right */
	bool opened;     /* it has a balance: of the class's initial one, restored, or imported */
	bool spent;
};

/* The initial balance, where the class is metered and the VM has none yet; else only the class's bounds are applied (a
 * cap that was lowered holds at once). For a new VM (zeroed), and after each change of its class, with `at` up to date. */
void credit_open(struct credit *c, const struct class_burst *burst, uint64_t now);
/* A balance from the store or another host, of the time `now`: clipped to the bounds of the class. */
void credit_set(struct credit *c, const struct class_burst *burst, int64_t balance, bool spent, uint64_t now);

/* From c->at to `now`, `enabled` vCPUs were enabled. Splitting that time into parts changes nothing. Of a class that is
 * not metered, the balance stands still. */
void credit_advance(struct credit *c, const struct class_burst *burst, uint32_t guaranteed, uint32_t enabled,
		    uint64_t now);
/* The time up to `now` counts for nothing: the VM was stopped, or paused and is not billed then. */
void credit_skip(struct credit *c, uint64_t now);

bool credit_may_burst(const struct credit *c, const struct class_burst *burst);
/* When credit_may_burst() changes its answer if `enabled` stays as it is: after c->at. UINT64_MAX: never. */
uint64_t credit_deadline(const struct credit *c, const struct class_burst *burst, uint32_t guaranteed,
			 uint32_t enabled);

#endif
