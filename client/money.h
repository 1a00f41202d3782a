/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_MONEY_H
#define CPUCTL_MONEY_H

/* Sums as decimals: exact, never by way of a double. */

#include <stdint.h>

#define MONEY_TEXT_SIZE 32

/* Of 1e-6: "0.021", "12.345678", "3.00". Two decimals at least, as bills have. Returns `text`. */
const char *money_format(uint64_t micro, char text[MONEY_TEXT_SIZE]);
/* All six decimals, to stand below each other. */
const char *money_format_full(uint64_t micro, char text[MONEY_TEXT_SIZE]);
/* vCPU-seconds of vCPU-ns, with so many decimals (up to 9), cut off. */
const char *money_format_seconds(int64_t ns, unsigned decimals, char text[MONEY_TEXT_SIZE]);

#endif
