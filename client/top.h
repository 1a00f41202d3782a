/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_TOP_H
#define CPUCTL_TOP_H

/* What `cpuctl top` knows of the host and its VMs, and which of them it shows in what order. Pure; top_view.h draws it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/host_info.h"
#include "client/vm_info.h"

#define TOP_FILTER_SIZE 64

struct top_vm {
	struct vm_info info;
	uint64_t credit_at; /* when info.credit was right; microseconds, as all times here */
	/* denials: what they were, when, and how many a second since the time before */
	uint64_t denied, denied_at;
	double denied_rate;
	bool stale; /* info.denied is to be got */
	bool asked; /* it has been */
	bool seen;  /* in the list that is being read */
};

enum top_column {
	TOP_NAME,
	TOP_CLASS,
	TOP_STATE,
	TOP_DESIRED,
	TOP_TARGET,
	TOP_ENABLED,
	TOP_ONLINE,
	TOP_CREDIT,
	TOP_DENIED,
	TOP_REASON,
	TOP_COLUMNS,
};

struct top {
	struct top_vm **vms; /* in no order */
	size_t n;
	struct host_info host;
	bool there; /* the daemon */

	enum top_column sort;
	bool reverse;
	bool lacking;                 /* those alone that do not have what is desired, or owe something */
	char filter[TOP_FILTER_SIZE]; /* part of name, UUID, class, tenant or state */
	bool typing;                  /* the filter */
	bool help;

	struct top_vm **order; /* those to be shown */
	size_t n_order;
	size_t first; /* at the top of the page */
};

void top_clear(struct top *t);

struct top_vm *top_find(const struct top *t, const char *path); /* NULL: none */
/* Takes `info` over; a VM of that path is replaced. -ENOMEM: it is cleared. */
int top_put(struct top *t, struct vm_info *info, uint64_t now);
void top_remove(struct top *t, const char *path);
/* All VMs as they are now, in place of what was known; taken over. */
int top_replace(struct top *t, struct vm_info *vms, size_t n, uint64_t now);

/* vCPU-ns at `now`. */
int64_t top_credit(const struct top_vm *vm, uint64_t now);
/* info.denied is right at `now`. */
void top_count_denied(struct top_vm *vm, uint64_t now);
/* What the view says it is sorted by. */
const char *top_column_name(enum top_column column);

/* Puts `order` right: at `now`, for pages of so many lines. */
void top_arrange(struct top *t, uint64_t now, size_t lines);

/* What a key changes (terminal.h). False: it ends the program. */
bool top_key(struct top *t, int key, size_t lines);

#endif
