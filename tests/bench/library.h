/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_LIBRARY_H
#define BENCH_LIBRARY_H

/* A VMM through libcpupolicy, as a product would have it. */

#include <stdint.h>

#include "proto/libcpupolicy.h"

struct library {
	struct cpupolicy *policy;
	uint64_t verdicts;               /* how many have come */
	struct cpupolicy_verdict latest; /* the last of them */
	uint64_t states;                 /* how often the library wanted to know everything */
};

/* Registers a VM; `l` stays where it is until library_end(). */
void library_start(struct library *l, const char *path, const char *name, uint32_t possible, uint32_t boot);
/* Waits for at most `timeout_ms` for something to do, and does it. */
void library_dispatch(struct library *l, int timeout_ms);
void library_end(struct library *l);

#endif
