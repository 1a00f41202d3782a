/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_TOP_VIEW_H
#define CPUCTL_TOP_VIEW_H

/* How `cpuctl top` looks: from 80 columns on with everything, narrower with less. */

#include <stdbool.h>
#include <stdint.h>

#include "client/screen.h"
#include "client/top.h"

/* How many VMs fit on a screen of so many rows. */
size_t top_view_lines(unsigned rows);
/* `now`: microseconds, as in top.h. */
void top_view(const struct top *t, struct screen *s, bool colours, uint64_t now);

#endif
