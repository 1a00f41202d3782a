/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cpupolicy-proto.h"

static int refuse(int r, const char *why, const char **ret_why)
{
	*ret_why = why;
	return r;
}

/* Length of the UTF-8 sequence at s, which ends before `end`; 0 if it is not one (RFC 3629). */
static size_t utf8_sequence(const uint8_t *s, const uint8_t *end)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t code;
	size_t length;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] < 0xe0)
		length = 2;
	else if (s[0] >= 0xe0 && s[0] < 0xf0)
		length = 3;
	else if (s[0] >= 0xf0 && s[0] < 0xf5)
		length = 4;
	else
		return 0;
	if ((size_t)(end - s) < length)
		return 0;
	code = s[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	return length;
}

/* C0, DEL and C1: they would reach terminals and logs. */
static bool is_control(const uint8_t *s)
{
	return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

static int check_text(const char *text, size_t length, const char **ret_why)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + length;

	while (s < end) {
		size_t n = utf8_sequence(s, end);

		if (n == 0)
			return refuse(-EPROTO, "a text is not UTF-8", ret_why);
		if (is_control(s))
			return refuse(-EPROTO, "a text has control characters", ret_why);
		s += n;
	}
	return 0;
}

int cpupolicy_text_check_member(const char *member, size_t size, const char **ret_why)
{
	const char *end = memchr(member, '\0', size);

	if (!end)
		return refuse(-EPROTO, "a text does not end", ret_why);
	if (end == member)
		return refuse(-EPROTO, "a text is empty", ret_why);
	for (const char *p = end; p < member + size; p++)
		if (*p)
			return refuse(-EPROTO, "bytes follow the end of a text", ret_why);
	return check_text(member, (size_t)(end - member), ret_why);
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* The API takes a name or a UUID in one argument, so no name may pass for a UUID. */
static bool looks_like_uuid(const char *name)
{
	if (strlen(name) != 36)
		return false;
	for (size_t i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? name[i] != '-' : !is_hex(name[i]))
			return false;
	}
	return true;
}

int cpupolicy_text_check_name(const char *name, const char **ret_why)
{
	size_t length = strnlen(name, CPUPOLICY_NAME_SIZE);
	int r;

	if (length == 0)
		return refuse(-EPROTO, "the name is empty", ret_why);
	if (length >= CPUPOLICY_NAME_SIZE)
		return refuse(-EPROTO, "the name is longer than 255 bytes", ret_why);
	r = check_text(name, length, ret_why);
	if (r < 0)
		return r;
	if (looks_like_uuid(name))
		return refuse(-EPERM, "the name looks like a UUID", ret_why);
	return 0;
}

size_t cpupolicy_text_cut(const char *text, size_t max)
{
	size_t length = strnlen(text, max + 1);

	if (length <= max)
		return length;
	length = max;
	while (length > 0 && ((uint8_t)text[length] & 0xc0) == 0x80)
		length--;
	return length;
}
