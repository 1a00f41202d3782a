/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_UUID_H
#define CPUPOLICYD_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/cpupolicy-proto.h"

#define UUID_TEXT_SIZE 37 /* the terminating NUL included */

/* The 36 characters of RFC 9562, letters in either case. -EINVAL: it is not that, and `ret` is untouched. */
int uuid_parse(uint8_t ret[CPUPOLICY_UUID_SIZE], const char *text);
/* Canonical: lower case. */
void uuid_format(char ret[UUID_TEXT_SIZE], const uint8_t uuid[CPUPOLICY_UUID_SIZE]);
/* All zero: the nil UUID names nothing. */
bool uuid_is_nil(const uint8_t uuid[CPUPOLICY_UUID_SIZE]);

#endif
