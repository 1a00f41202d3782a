/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_METRICS_TEXT_H
#define CPUPOLICYD_METRICS_TEXT_H

/*
 * The host's state as OpenMetrics text, made in steps, so that the loop is not held up however many VMs there are. What a
 * step says of a VM is of one moment; two VMs may be of two. docs/metrics.md lists all metrics; this file's tables have one
 * row for each.
 */

#include <stdbool.h>
#include <stddef.h>

#include "daemon/host/host.h"

#define METRICS_TEXT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

struct metrics_text;

int metrics_text_new(struct metrics_text **ret, struct host *host);
struct metrics_text *metrics_text_free(struct metrics_text *text);
/* Takes in the next `vms` VMs at most. 1: go on; 0: the text is whole; -ENOMEM. */
int metrics_text_step(struct metrics_text *text, size_t vms);
/* The parts of a whole text, in order; none is empty. Until metrics_text_free(). */
size_t metrics_text_parts(const struct metrics_text *text);
const char *metrics_text_part(const struct metrics_text *text, size_t index, size_t *ret_size);

#endif
