/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_VECTOR_H
#define TESTS_VECTOR_H

/* Reads tests/data/vectors/NAME.hex (see the README there). Fails the running test if it cannot. */

#include <stddef.h>
#include <stdint.h>

#define VECTOR_MAX 1024

size_t vector_load(const char *name, uint8_t ret[static VECTOR_MAX]);

#endif
