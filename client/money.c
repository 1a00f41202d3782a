/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/money.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DECIMALS_MIN 2

const char *money_format_full(uint64_t micro, char text[MONEY_TEXT_SIZE])
{
	snprintf(text, MONEY_TEXT_SIZE, "%" PRIu64 ".%06" PRIu64, micro / 1000000, micro % 1000000);
	return text;
}

const char *money_format(uint64_t micro, char text[MONEY_TEXT_SIZE])
{
	size_t n = strlen(money_format_full(micro, text));

	while (text[n - 1] == '0' && text[n - 1 - DECIMALS_MIN] != '.')
		text[--n] = '\0';
	return text;
}

const char *money_format_seconds(int64_t ns, unsigned decimals, char text[MONEY_TEXT_SIZE])
{
	uint64_t size = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
	char fraction[16];

	snprintf(fraction, sizeof(fraction), "%09" PRIu64, size % 1000000000);
	snprintf(text, MONEY_TEXT_SIZE, "%s%" PRIu64 "%s%.*s", ns < 0 ? "-" : "", size / 1000000000,
		 decimals > 0 ? "." : "", (int)decimals, fraction);
	return text;
}
