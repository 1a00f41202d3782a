/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/settings/json_where.h"

#include <string.h>

/* The text is known to be well-formed, so each of these steps over one construct without asking what is in it. */

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

static const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

static const char *skip_value(const char *p)
{
	size_t depth = 0;

	do {
		switch (*p) {
		case '\0':
			return p;
		case '"':
			p = skip_string(p);
			break;
		case '{':
		case '[':
			depth++;
			p++;
			break;
		case '}':
		case ']':
			depth--;
			p++;
			break;
		default: /* a number, a word, or, inside, what stands between values */
			p += depth > 0 ? 1 : strcspn(p, " \t\r\n,]}");
		}
	} while (depth > 0);
	return p;
}

/* From an object's brace to the value of its n-th member; *ret_key is where that one's key stands. */
static const char *find_member(const char *p, size_t n, const char **ret_key)
{
	for (;;) {
		const char *key = skip_space(p + 1); /* after the brace or a comma */
		const char *value = skip_space(skip_string(key));

		value = skip_space(value + (*value == ':'));
		if (n-- == 0) {
			*ret_key = key;
			return value;
		}
		p = skip_space(skip_value(value));
		if (*p != ',') {
			*ret_key = p;
			return p;
		}
	}
}

/* From an array's bracket to its n-th element. */
static const char *find_element(const char *p, size_t n)
{
	p = skip_space(p + 1);
	while (n-- > 0) {
		p = skip_space(skip_value(p));
		if (*p != ',')
			break;
		p = skip_space(p + 1);
	}
	return p;
}

static const char *find_value(const char *text, const size_t *path, size_t depth, const char **ret_key)
{
	const char *at = skip_space(text);

	*ret_key = at;
	for (size_t i = 0; i < depth; i++) {
		if (*at == '{')
			at = find_member(at, path[i], ret_key);
		else if (*at == '[')
			*ret_key = at = find_element(at, path[i]);
		else
			break;
	}
	return at;
}

const char *json_where_value(const char *text, const size_t *path, size_t depth)
{
	const char *key;

	return find_value(text, path, depth, &key);
}

void json_where(const char *text, const size_t *path, size_t depth, bool key, unsigned *ret_line, unsigned *ret_column)
{
	const char *at_key, *at = find_value(text, path, depth, &at_key);
	unsigned line = 1, column = 1;

	for (const char *p = text; p < (key ? at_key : at); p++) {
		if (*p == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)*p & 0xc0) != 0x80) {
			column++;
		}
	}
	*ret_line = line;
	*ret_column = column;
}
