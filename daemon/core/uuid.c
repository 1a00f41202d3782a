/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/uuid.h"

#include <errno.h>
#include <string.h>

static bool dash_follows(unsigned byte)
{
	return byte == 3 || byte == 5 || byte == 7 || byte == 9;
}

/* Not isxdigit(): that one depends on the locale. */
static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int uuid_parse(uint8_t ret[CPUPOLICY_UUID_SIZE], const char *text)
{
	uint8_t uuid[CPUPOLICY_UUID_SIZE];

	for (unsigned i = 0; i < CPUPOLICY_UUID_SIZE; i++) {
		int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);

		if (low < 0)
			return -EINVAL;
		uuid[i] = (uint8_t)(high << 4 | low);
		text += 2;
		if (dash_follows(i) && *text++ != '-')
			return -EINVAL;
	}
	if (*text)
		return -EINVAL;
	memcpy(ret, uuid, sizeof(uuid));
	return 0;
}

void uuid_format(char ret[UUID_TEXT_SIZE], const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < CPUPOLICY_UUID_SIZE; i++) {
		*ret++ = digits[uuid[i] >> 4];
		*ret++ = digits[uuid[i] & 0xf];
		if (dash_follows(i))
			*ret++ = '-';
	}
	*ret = '\0';
}

bool uuid_is_nil(const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	static const uint8_t nil[CPUPOLICY_UUID_SIZE];

	return memcmp(uuid, nil, sizeof(nil)) == 0;
}
