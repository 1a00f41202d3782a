/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef COMMON_CPULIST_H
#define COMMON_CPULIST_H

/*
 * Sets of vCPUs, and their text as the kernel writes it in /sys/devices/system/cpu: "0-3,5". The daemon writes it, the client
 * reads it back.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPULIST_MAX       512u  /* vCPUs 0 .. 511 */
#define CPULIST_TEXT_SIZE 2048u /* the longest text ("0-1,3-4,...") and its end */

struct cpulist {
	uint64_t bits[CPULIST_MAX / 64];
};

void cpulist_add(struct cpulist *set, unsigned cpu);
bool cpulist_has(const struct cpulist *set, unsigned cpu);
bool cpulist_is_empty(const struct cpulist *set);
unsigned cpulist_count(const struct cpulist *set);
/* What is in `set` and not in `without`. */
struct cpulist cpulist_minus(const struct cpulist *set, const struct cpulist *without);

/* The empty set is the empty text. Returns `text`. */
char *cpulist_format(const struct cpulist *set, char text[static CPULIST_TEXT_SIZE]);
/* -EINVAL: not such a list (numbers ascend, nothing but digits, ',' and '-'); -ERANGE: beyond CPULIST_MAX. */
int cpulist_parse(const char *text, struct cpulist *ret);

#endif
