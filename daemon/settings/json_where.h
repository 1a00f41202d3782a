/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_JSON_WHERE_H
#define CPUPOLICYD_JSON_WHERE_H

/*
 * Where in a text a JSON value stands. jansson says so for what it cannot parse, but keeps no position of what it
 * could; for an error in the meaning the text is walked once more.
 */

#include <stdbool.h>
#include <stddef.h>

/*
 * `text` is JSON that jansson has accepted with duplicates rejected, NUL-terminated. `path` leads from the outermost
 * value: path[0] is the number of a member or an element in it, in the text's (and jansson's) order, path[1] of one in
 * that one, and so on. Gives the line and column, both from 1, columns in characters, of the last one's value or, if
 * `key`, of its key. Depth 0 is the outermost value.
 */
void json_where(const char *text, const size_t *path, size_t depth, bool key, unsigned *ret_line, unsigned *ret_column);
/* Where that value begins. */
const char *json_where_value(const char *text, const size_t *path, size_t depth);

#endif
