/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_WHEN_H
#define CPUCTL_WHEN_H

/* Times of day, as people write and read them. */

#include <stdint.h>

/*
 * Microseconds since 1970 of "2026-11" (its first moment), "2026-11-20", "2026-11-20 18:00", "2026-11-20T18:00:30Z" (UTC; else
 * local time), "@SECONDS", "-90s", "-90m", "-12h", "-7d" (ago), "now", "today", "yesterday". -EINVAL.
 */
int when_parse(const char *text, uint64_t *ret_usec);

#define WHEN_TEXT_SIZE 40

/* "2026-11-20T18:00:00Z", with a fraction if there is one. Returns `text`. */
const char *when_format_utc(uint64_t usec, char text[WHEN_TEXT_SIZE]);
/* "2026-11-20 18:00:00" of the local time. */
const char *when_format_local(uint64_t usec, char text[WHEN_TEXT_SIZE]);

#endif
