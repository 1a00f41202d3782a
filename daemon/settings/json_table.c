/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/settings/json_table.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>

#include "daemon/settings/json_where.h"
#include "daemon/base/util.h"
#include "proto/text.h"

/* ---- errors ---- */

void json_table_push(struct json_reader *reader, const char *key, size_t member)
{
	reader->key[reader->depth] = key;
	reader->member[reader->depth++] = member;
}

void json_table_pop(struct json_reader *reader)
{
	reader->depth--;
}

json_t *json_table_enter(struct json_reader *reader, json_t *object, const char *key)
{
	const char *k;
	json_t *value;
	size_t member = 0;

	json_object_foreach(object, k, value) {
		if (strcmp(k, key) == 0) {
			json_table_push(reader, k, member);
			return value;
		}
		member++;
	}
	return NULL;
}

/* "limits.vms", "rules[2].match" */
static char *dotted_path(const struct json_reader *reader)
{
	char *path = NULL;
	size_t size;
	FILE *f = open_memstream(&path, &size);

	if (!f)
		return NULL;
	for (size_t i = 0; i < reader->depth; i++)
		if (reader->key[i])
			fprintf(f, "%s%s", i > 0 ? "." : "", reader->key[i]);
		else
			fprintf(f, "[%zu]", reader->member[i]);
	if (fclose(f) != 0) {
		free(path);
		return NULL;
	}
	return path;
}

int json_table_fail(struct json_reader *reader, bool at_key, const char *format, ...)
{
	_cleanup_free_ char *path = dotted_path(reader), *message = NULL;
	unsigned line, column;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&message, format, ap);
	va_end(ap);
	if (n < 0) {
		message = NULL;
		return -ENOMEM;
	}
	json_where(reader->text, reader->member, reader->depth, at_key, &line, &column);
	if (!path || asprintf(&reader->error, "%s:%u:%u: %s%s%s", reader->file, reader->line + line, column, path,
			      reader->depth > 0 ? ": " : "", message) < 0) {
		reader->error = NULL;
		return -ENOMEM;
	}
	return -EINVAL;
}

/* What stands there, for "expected ..., not ...". */
static char *describe(const struct json_reader *reader, json_t *value)
{
	const char *number;
	char *text;

	if (json_is_object(value))
		return strdup("an object");
	if (json_is_array(value))
		return strdup("an array");
	if (json_is_real(value)) { /* as it was written: the double is not that */
		number = json_where_value(reader->text, reader->member, reader->depth);
		return strndup(number, MIN(strcspn(number, " \t\r\n,]}"), 77));
	}
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	if (text && strlen(text) > 80)
		strcpy(text + cpupolicy_text_cut(text, 77), "...");
	return text;
}

int json_table_expected(struct json_reader *reader, json_t *value, const char *format, ...)
{
	_cleanup_free_ char *found = describe(reader, value), *what = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&what, format, ap);
	va_end(ap);
	if (n < 0) {
		what = NULL;
		return -ENOMEM;
	}
	if (!found)
		return -ENOMEM;
	return json_table_fail(reader, false, "expected %s, not %s", what, found);
}

/* ---- values ---- */

static int read_number(struct json_reader *reader, const struct json_row *row, json_t *value, uint64_t *ret)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < 0 || (uint64_t)n < row->min || (uint64_t)n > row->max)
		return json_table_expected(reader, value, "an integer from %" PRIu64 " to %" PRIu64, row->min,
					   row->max);
	*ret = (uint64_t)n * (row->unit ? row->unit : 1);
	return 0;
}

int json_read_u32(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	uint64_t n = 0;
	int r = read_number(reader, row, value, &n);

	if (r >= 0)
		*(uint32_t *)to = (uint32_t)n;
	return r;
}

int json_read_u64(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	return read_number(reader, row, value, to);
}

int json_read_i64(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	if (!json_is_integer(value))
		return json_table_expected(reader, value, "an integer");
	*(int64_t *)to = json_integer_value(value);
	return 0;
}

int json_read_bool(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	if (!json_is_boolean(value))
		return json_table_expected(reader, value, "true or false");
	*(bool *)to = json_is_true(value);
	return 0;
}

int json_read_word(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *word = json_string_value(value);

	for (unsigned i = 0; word && i < 2; i++)
		if (strcmp(word, row->words[i]) == 0) {
			*(bool *)to = i;
			return 0;
		}
	return json_table_expected(reader, value, "\"%s\" or \"%s\"", row->words[0], row->words[1]);
}

int json_read_choice(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *word = json_string_value(value);

	for (unsigned i = 0; word && i < ARRAY_SIZE(row->words); i++)
		if (strcmp(word, row->words[i]) == 0) {
			*(unsigned *)to = i;
			return 0;
		}
	return json_table_expected(reader, value, "\"%s\", \"%s\" or \"%s\"", row->words[0], row->words[1],
				   row->words[2]);
}

/* What stands in the text: jansson has made a double of it, which is not exact. */
static const char *decimal_text(const struct json_reader *reader, json_t *value)
{
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_number(value))
		return json_where_value(reader->text, reader->member, reader->depth);
	return "";
}

/* Digits, and after a dot no more of them than `unit` has zeros. */
static int parse_decimal(const char *p, uint64_t unit, uint64_t max, const char *end, uint64_t *ret)
{
	uint64_t n = 0, digit = unit;
	bool dot = false;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p && !strchr(end, *p); p++) {
		if (*p == '.' && !dot && p[1] >= '0' && p[1] <= '9') {
			dot = true;
			continue;
		}
		if (*p < '0' || *p > '9')
			return -EINVAL;
		if (dot && digit == 1)
			return -EINVAL;
		if (dot)
			n += (uint64_t)(*p - '0') * (digit /= 10);
		else
			n = n * 10 + (uint64_t)(*p - '0') * unit;
		if (n > max)
			return -ERANGE;
	}
	*ret = n;
	return 0;
}

static unsigned count_zeros(uint64_t unit)
{
	unsigned n = 0;

	for (; unit > 1; unit /= 10)
		n++;
	return n;
}

int json_read_decimal(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	uint64_t n;

	if (parse_decimal(decimal_text(reader, value), row->unit, row->max, json_is_string(value) ? "" : " \t\r\n,]}",
			  &n) < 0 ||
	    n < row->min)
		return json_table_expected(reader, value, "a number from %g to %g with at most %u decimals",
					   (double)row->min / (double)row->unit, (double)row->max / (double)row->unit,
					   count_zeros(row->unit));
	*(uint64_t *)to = n;
	return 0;
}

int json_replace_text(char **to, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

int json_read_text(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);
	const char *wrong = row->check(text ? text : "");

	if (!text || wrong)
		return json_table_expected(reader, value, "%s", wrong ? wrong : "a string");
	return json_replace_text(to, text);
}

/* ---- objects ---- */

const struct json_row *json_table_find(const struct json_row *rows, const char *key)
{
	for (; rows->key; rows++)
		if (strcmp(rows->key, key) == 0)
			return rows;
	return NULL;
}

static int fail_unknown(struct json_reader *reader, const struct json_row *rows)
{
	_cleanup_free_ char *list = NULL;
	size_t size;
	FILE *f = open_memstream(&list, &size);

	if (!f)
		return -ENOMEM;
	for (const struct json_row *row = rows; row->key; row++)
		fprintf(f, "%s%s", row == rows ? "" : ", ", row->key);
	if (fclose(f) != 0)
		return -ENOMEM;
	return json_table_fail(reader, true, "unknown key; expected one of %s", list);
}

/* Members are taken in the order of the rows, whatever the file's is: VMs inherit from the default. */
int json_table_read(struct json_reader *reader, const struct json_row *rows, json_t *object, void *to)
{
	const char *key;
	json_t *value;
	size_t member = 0;
	int r = 0;

	if (!json_is_object(object))
		return json_table_expected(reader, object, "an object");
	json_object_foreach(object, key, value) {
		json_table_push(reader, key, member++);
		if (!json_table_find(rows, key))
			r = fail_unknown(reader, rows);
		json_table_pop(reader);
		if (r < 0)
			return r;
	}
	for (const struct json_row *row = rows; row->key; row++)
		if (row->required && !json_object_get(object, row->key))
			return json_table_fail(reader, false, "expected %s in it", row->key);
	for (const struct json_row *row = rows; row->key; row++) {
		member = 0;
		json_object_foreach(object, key, value) {
			if (strcmp(key, row->key) == 0) {
				json_table_push(reader, key, member);
				r = row->read(reader, row, value, to ? (char *)to + row->offset : NULL);
				json_table_pop(reader);
				if (r < 0)
					return r;
			}
			member++;
		}
	}
	return 0;
}

int json_read_object(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	return json_table_read(reader, row->rows, value, to);
}

/* ---- files ---- */

int json_table_read_file(const char *path, char **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_free_ char *text = NULL;
	size_t size = 0, room = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n;

		if (size + 1 >= room) {
			char *larger = realloc(text, room + 65536);

			if (!larger)
				return -ENOMEM;
			text = larger;
			room += 65536;
		}
		n = read(fd, text + size, room - size - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		size += (size_t)n;
		if (size > JSON_TABLE_MAX_FILE)
			return -EFBIG;
	}
	text[size] = '\0';
	*ret = TAKE(text);
	*ret_size = size;
	return 0;
}

int json_table_parse(struct json_reader *reader, size_t size, json_t **ret)
{
	json_error_t error;
	json_t *root = json_loadb(reader->text, size, JSON_REJECT_DUPLICATES, &error);

	if (root) {
		*ret = root;
		return 0;
	}
	if (json_error_code(&error) == json_error_out_of_memory)
		return -ENOMEM;
	if (asprintf(&reader->error, "%s:%u:%d: %s", reader->file, reader->line + (unsigned)error.line,
		     error.column > 0 ? error.column : 1, error.text) < 0)
		reader->error = NULL;
	return -EINVAL;
}
