/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_JSON_TABLE_H
#define CPUPOLICYD_JSON_TABLE_H

/*
 * JSON read strictly by tables: each key is one row, which says where its value goes and what it may be. Reading,
 * bounds and the text of an error all come from that row. An unknown key, a wrong type, a value out of range is an
 * error that names file, line, column, the key's path and what was expected.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_TABLE_DEPTH    6           /* classes, NAME, burst, cap_seconds, and room */
#define JSON_TABLE_MAX_FILE (16u << 20) /* bytes */

/* One text that is read. The caller sets file, text and userdata. */
struct json_reader {
	const char *file;
	const char *text; /* NUL-terminated */
	unsigned line;    /* lines of the file before it */
	void *userdata;
	const char *key[JSON_TABLE_DEPTH]; /* the path of the value that is looked at (NULL: an array's element) ... */
	size_t member[JSON_TABLE_DEPTH];   /* ... and its numbers, for json_where() */
	size_t depth;
	char *error; /* the first one, which ends the reading: to print and free */
};

struct json_row {
	const char *key;
	int (*read)(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
	size_t offset;
	uint64_t min, max;                      /* of a number */
	uint64_t unit;                          /* what one of the file's is in memory; 0: 1 */
	const char *words[3];                   /* two stand for false and true; three are numbered */
	const char *(*check)(const char *text); /* of a text: what was expected, or NULL if it is that */
	const struct json_row *rows;            /* of an object; ends with a NULL key */
	bool required;
};

#define JSON_MEMBER(type, member) .offset = offsetof(type, member)

/* Of at most JSON_TABLE_MAX_FILE bytes; *ret is NUL-terminated. Negative errno; -EFBIG. */
int json_table_read_file(const char *path, char **ret, size_t *ret_size);
/* -EINVAL: it is no JSON. As all below, reader->error is NULL if there was no memory for one (-ENOMEM). */
int json_table_parse(struct json_reader *reader, size_t size, json_t **ret);
/* Members are taken in the order of the rows, whatever the text's is. */
int json_table_read(struct json_reader *reader, const struct json_row *rows, json_t *object, void *to);
const struct json_row *json_table_find(const struct json_row *rows, const char *key);

/* ---- for readers of rows ---- */

/* Enters a member of the value that is looked at (`key` NULL: an element), and leaves it. */
void json_table_push(struct json_reader *reader, const char *key, size_t member);
void json_table_pop(struct json_reader *reader);
/* Enters the member of `object` (what is looked at) that has this key, and returns it; NULL: there is none, and nothing
 * is entered. */
json_t *json_table_enter(struct json_reader *reader, json_t *object, const char *key);
/* -EINVAL, with the error at the value that is looked at, or at its key. */
int json_table_fail(struct json_reader *reader, bool at_key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* "expected ..., not ..." */
int json_table_expected(struct json_reader *reader, json_t *value, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

int json_read_u32(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
int json_read_u64(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* A number with decimals, or a string of one: exact, times `unit` (a power of ten) into a uint64_t; min and max are in
 * those units too. */
int json_read_decimal(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
int json_read_i64(struct json_reader *reader, const struct json_row *row, json_t *value, void *to); /* whatever it is */
int json_read_bool(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* A bool of two words. */
int json_read_word(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* Of three words, as an unsigned: 0, 1 or 2. */
int json_read_choice(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* A char *: what is there is freed. */
int json_read_text(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
int json_read_object(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
int json_replace_text(char **to, const char *text);

#endif
