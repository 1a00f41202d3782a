/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "vector.h"

#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

static int digit(int c)
{
	if (isdigit(c))
		return c - '0';
	ck_assert_msg(c >= 'a' && c <= 'f', "'%c' is not a hexadecimal digit", c);
	return c - 'a' + 10;
}

static int next_digit(FILE *f)
{
	int c;

	while ((c = fgetc(f)) != EOF) {
		if (c == '#')
			while (c != '\n' && c != EOF)
				c = fgetc(f);
		else if (!isspace(c))
			return digit(c);
	}
	return EOF;
}

size_t vector_load(const char *name, uint8_t ret[static VECTOR_MAX])
{
	const char *srcdir = getenv("srcdir");
	char path[4096];
	size_t n = 0;
	int high, low;
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/data/vectors/%s.hex", srcdir ? srcdir : ".", name);
	f = fopen(path, "re");
	ck_assert_msg(f != NULL, "cannot open %s", path);
	while ((high = next_digit(f)) != EOF) {
		low = next_digit(f);
		ck_assert_msg(low != EOF, "%s has half a byte", path);
		ck_assert_uint_lt(n, VECTOR_MAX);
		ret[n++] = (uint8_t)(high << 4 | low);
	}
	fclose(f);
	return n;
}
