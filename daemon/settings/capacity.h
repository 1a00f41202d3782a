/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_CAPACITY_H
#define CPUPOLICYD_CAPACITY_H

/*
 * How many of the host's CPUs there are for VMs, as the kernel reports it: the effective cpuset of the daemon's cgroup
 * (of the nearest one above it that has a cpuset), else the CPUs that the daemon may be scheduled on. Changes are
 * noticed where the kernel tells of them: CPUs that go on- or offline, and writes to the cpusets from the daemon's
 * cgroup up. No wake-ups beside these.
 */

#include <stdint.h>

#include "daemon/base/loop.h"

struct capacity;

/* Runs on the loop when the number is another one. */
typedef void (*capacity_fn)(uint32_t cpus, void *userdata);

/*
 * `root` stands before /proc and /sys/fs/cgroup: "" in the daemon. What cannot be watched is not an error: it is
 * noticed at the next capacity_reread().
 */
int capacity_new(struct capacity **ret, struct loop *loop, const char *root, capacity_fn fn, void *userdata);
struct capacity *capacity_free(struct capacity *capacity);

/* At least 1. */
uint32_t capacity_cpus(const struct capacity *capacity);
/* Looks again (a reload): capacity_cpus() is right after it; `fn` is not called. */
void capacity_reread(struct capacity *capacity);

/* How many CPUs a list of the kernel ("0-3,8") names, however high their numbers. -EINVAL: it is not one. */
int capacity_count_list(const char *list, uint32_t *ret);

#endif
