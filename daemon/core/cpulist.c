/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/cpulist.h"

#include <errno.h>
#include <stdio.h>

void cpulist_add(struct cpulist *set, unsigned cpu)
{
	if (cpu < CPULIST_MAX)
		set->bits[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

bool cpulist_has(const struct cpulist *set, unsigned cpu)
{
	return cpu < CPULIST_MAX && (set->bits[cpu / 64] >> (cpu % 64) & 1);
}

bool cpulist_is_empty(const struct cpulist *set)
{
	return cpulist_count(set) == 0;
}

unsigned cpulist_count(const struct cpulist *set)
{
	unsigned n = 0;

	for (size_t i = 0; i < CPULIST_MAX / 64; i++)
		n += (unsigned)__builtin_popcountll(set->bits[i]);
	return n;
}

struct cpulist cpulist_minus(const struct cpulist *set, const struct cpulist *without)
{
	struct cpulist left;

	for (size_t i = 0; i < CPULIST_MAX / 64; i++)
		left.bits[i] = set->bits[i] & ~without->bits[i];
	return left;
}

char *cpulist_format(const struct cpulist *set, char text[static CPULIST_TEXT_SIZE])
{
	size_t at = 0;

	text[0] = '\0';
	for (unsigned cpu = 0; cpu < CPULIST_MAX; cpu++) {
		unsigned last = cpu;

		if (!cpulist_has(set, cpu))
			continue;
		while (cpulist_has(set, last + 1))
			last++;
		at += (size_t)snprintf(text + at, CPULIST_TEXT_SIZE - at, "%s%u", at > 0 ? "," : "", cpu);
		if (last != cpu)
			at += (size_t)snprintf(text + at, CPULIST_TEXT_SIZE - at, "-%u", last);
		cpu = last;
	}
	return text;
}

/* Digits alone: no sign, no space, and no more of them than a vCPU's number can have. */
static int parse_number(const char **at, unsigned *ret)
{
	const char *p = *at;
	unsigned n = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		n = n * 10 + (unsigned)(*p - '0');
		if (n >= CPULIST_MAX)
			return -ERANGE;
	}
	*at = p;
	*ret = n;
	return 0;
}

int cpulist_parse(const char *text, struct cpulist *ret)
{
	struct cpulist set = {0};
	unsigned next = 0;

	for (const char *p = text; *p;) {
		unsigned first, last;
		int r;

		if (p != text && *p++ != ',')
			return -EINVAL;
		r = parse_number(&p, &first);
		if (r < 0)
			return r;
		last = first;
		if (*p == '-') {
			p++;
			r = parse_number(&p, &last);
			if (r < 0)
				return r;
		}
		if (first < next || last < first)
			return -EINVAL;
		for (unsigned cpu = first; cpu <= last; cpu++)
			cpulist_add(&set, cpu);
		next = last + 1;
	}
	*ret = set;
	return 0;
}
