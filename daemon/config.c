/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Each key of the file is one row of a table below, which says where its value goes and what it may be; reading, bounds
 * and the text of an error all come from that row. docs/man/cpupolicyd.conf.5 has the same rows in prose.
 */

#include "daemon/config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/core/uuid.h"
#include "daemon/json_where.h"
#include "daemon/util.h"
#include "proto/text.h"

#define MAX_FILE_SIZE (16u << 20)
#define MAX_DEPTH     4 /* vms, NAME, cpu_on, per_second */
#define MAX_RULES     65536

struct reader {
	const char *file;
	const char *text;
	const char *key[MAX_DEPTH]; /* the path of the value that is looked at ... */
	size_t member[MAX_DEPTH];   /* ... and its numbers, for json_where() */
	size_t depth;
	char *error; /* the first one; it ends the reading */
};

struct row {
	const char *key;
	int (*read)(struct reader *reader, const struct row *row, json_t *value, void *to);
	size_t offset;
	uint64_t min, max;                      /* of a number */
	uint64_t unit;                          /* what one of the file's is in memory; 0: 1 */
	const char *words[2];                   /* that stand for false and true */
	const char *(*check)(const char *text); /* of a text: what was expected, or NULL if it is that */
	const struct row *rows;                 /* of an object; ends with a NULL key */
};

DEFINE_CLEANUP(struct config *, config_free)

/* ---- errors ---- */

static void push(struct reader *reader, const char *key, size_t member)
{
	reader->key[reader->depth] = key;
	reader->member[reader->depth++] = member;
}

static void pop(struct reader *reader)
{
	reader->depth--;
}

/* "limits.vms" */
static char *dotted_path(const struct reader *reader)
{
	char *path = NULL;
	size_t size;
	FILE *f = open_memstream(&path, &size);

	if (!f)
		return NULL;
	for (size_t i = 0; i < reader->depth; i++)
		fprintf(f, "%s%s", i > 0 ? "." : "", reader->key[i]);
	if (fclose(f) != 0) {
		free(path);
		return NULL;
	}
	return path;
}

static int __attribute__((format(printf, 3, 4))) fail(struct reader *reader, bool at_key, const char *format, ...)
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
	if (!path || asprintf(&reader->error, "%s:%u:%u: %s%s%s", reader->file, line, column, path,
			      reader->depth > 0 ? ": " : "", message) < 0) {
		reader->error = NULL;
		return -ENOMEM;
	}
	return -EINVAL;
}

/* What stands there, for "expected ..., not ...". */
static char *describe(json_t *value)
{
	char *text;

	if (json_is_object(value))
		return strdup("an object");
	if (json_is_array(value))
		return strdup("an array");
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	if (text && strlen(text) > 80)
		strcpy(text + cpupolicy_text_cut(text, 77), "...");
	return text;
}

static int __attribute__((format(printf, 3, 4))) expected(struct reader *reader, json_t *value, const char *format, ...)
{
	_cleanup_free_ char *found = describe(value), *what = NULL;
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
	return fail(reader, false, "expected %s, not %s", what, found);
}

/* ---- values ---- */

static int read_number(struct reader *reader, const struct row *row, json_t *value, uint64_t *ret)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < 0 || (uint64_t)n < row->min || (uint64_t)n > row->max)
		return expected(reader, value, "an integer from %" PRIu64 " to %" PRIu64, row->min, row->max);
	*ret = (uint64_t)n * (row->unit ? row->unit : 1);
	return 0;
}

static int read_u32(struct reader *reader, const struct row *row, json_t *value, void *to)
{
	uint64_t n = 0;
	int r = read_number(reader, row, value, &n);

	if (r >= 0)
		*(uint32_t *)to = (uint32_t)n;
	return r;
}

static int read_u64(struct reader *reader, const struct row *row, json_t *value, void *to)
{
	return read_number(reader, row, value, to);
}

static int read_bool(struct reader *reader, const struct row *row, json_t *value, void *to)
{
	if (!json_is_boolean(value))
		return expected(reader, value, "true or false");
	*(bool *)to = json_is_true(value);
	return 0;
}

static int read_word(struct reader *reader, const struct row *row, json_t *value, void *to)
{
	const char *word = json_string_value(value);

	for (unsigned i = 0; word && i < ARRAY_SIZE(row->words); i++)
		if (strcmp(word, row->words[i]) == 0) {
			*(bool *)to = i;
			return 0;
		}
	return expected(reader, value, "\"%s\" or \"%s\"", row->words[0], row->words[1]);
}

static int replace_text(char **to, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

static int read_text(struct reader *reader, const struct row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);
	const char *wrong = row->check(text ? text : "");

	if (!text || wrong)
		return expected(reader, value, "%s", wrong ? wrong : "a string");
	return replace_text(to, text);
}

static int read_mode(struct reader *reader, const struct row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);
	size_t digits = text ? strspn(text, "01234567") : 0;
	unsigned long mode = digits > 0 && digits <= 4 && !text[digits] ? strtoul(text, NULL, 8) : ULONG_MAX;

	if (mode > 0777)
		return expected(reader, value, "a string of octal digits up to \"0777\"");
	*(mode_t *)to = (mode_t)mode;
	return 0;
}

static const char *check_socket(const char *text)
{
	if (text[0] == '/' && strlen(text) < sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return NULL;
	return "an absolute path of at most 107 bytes";
}

static const char *check_path(const char *text)
{
	return text[0] == '/' ? NULL : "an absolute path";
}

static const char *check_group(const char *text)
{
	return text[0] ? NULL : "the name of a group";
}

static const char *check_bus(const char *text)
{
	if (strcmp(text, "system") == 0 || strcmp(text, "session") == 0 || strcmp(text, "none") == 0 ||
	    (strchr(text, ':') && text[0] != ':'))
		return NULL;
	return "\"system\", \"session\", \"none\" or the address of a bus";
}

/* ---- objects ---- */

static const struct row *find_row(const struct row *rows, const char *key)
{
	for (; rows->key; rows++)
		if (strcmp(rows->key, key) == 0)
			return rows;
	return NULL;
}

static int fail_unknown(struct reader *reader, const struct row *rows)
{
	_cleanup_free_ char *list = NULL;
	size_t size;
	FILE *f = open_memstream(&list, &size);

	if (!f)
		return -ENOMEM;
	for (const struct row *row = rows; row->key; row++)
		fprintf(f, "%s%s", row == rows ? "" : ", ", row->key);
	if (fclose(f) != 0)
		return -ENOMEM;
	return fail(reader, true, "unknown key; expected one of %s", list);
}

/* Members are taken in the order of the rows, whatever the file's is: VMs inherit from the default. */
static int read_members(struct reader *reader, const struct row *rows, json_t *object, void *to)
{
	const char *key;
	json_t *value;
	size_t member = 0;
	int r = 0;

	if (!json_is_object(object))
		return expected(reader, object, "an object");
	json_object_foreach(object, key, value) {
		push(reader, key, member++);
		if (!find_row(rows, key))
			r = fail_unknown(reader, rows);
		pop(reader);
		if (r < 0)
			return r;
	}
	for (const struct row *row = rows; row->key; row++) {
		member = 0;
		json_object_foreach(object, key, value) {
			if (strcmp(key, row->key) == 0) {
				push(reader, key, member);
				r = row->read(reader, row, value, (char *)to + row->offset);
				pop(reader);
				if (r < 0)
					return r;
			}
			member++;
		}
	}
	return 0;
}

static int read_object(struct reader *reader, const struct row *row, json_t *value, void *to)
{
	return read_members(reader, row->rows, value, to);
}

static size_t member_number(json_t *object, const char *key)
{
	const char *k;
	json_t *value;
	size_t n = 0;

	json_object_foreach(object, k, value) {
		if (strcmp(k, key) == 0)
			break;
		n++;
	}
	return n;
}

/* Each bound is within its own range, and may still contradict the other one, which may be inherited. */
static int check_level(struct reader *reader, json_t *object, const struct service_level *level)
{
	json_t *minimum = json_object_get(object, "minimum");
	const char *key = minimum ? "minimum" : "maximum";
	int r;

	if (level->minimum <= level->maximum)
		return 0;
	push(reader, key, member_number(object, key));
	if (minimum)
		r = expected(reader, minimum, "at most the maximum, %" PRIu32, level->maximum);
	else
		r = expected(reader, json_object_get(object, key), "at least the minimum, %" PRIu32, level->minimum);
	pop(reader);
	return r;
}

#define MEMBER(type, member) .offset = offsetof(type, member)

static const struct row cpu_on_rows[] = {
	{.key = "per_second", .read = read_u32, MEMBER(struct rate_limit, per_second), .min = 0, .max = 1000000},
	{.key = "burst", .read = read_u32, MEMBER(struct rate_limit, burst), .min = 1, .max = 1000000},
	{0},
};

#define LEVEL(member) MEMBER(struct service_level, member)

static const struct row level_rows[] = {
	{.key = "minimum", .read = read_u32, LEVEL(minimum), .min = 1, .max = CPUPOLICY_MAX_VCPUS},
	{.key = "maximum", .read = read_u32, LEVEL(maximum), .min = 1, .max = CPUPOLICY_MAX_VCPUS},
	{.key = "cpu_on", .read = read_object, LEVEL(cpu_on), .rows = cpu_on_rows},
	{.key = "verdicts", .read = read_word, LEVEL(ask), .words = {"page", "ask"}},
	{.key = "on_timeout", .read = read_word, LEVEL(timeout_allow), .words = {"deny", "allow"}},
	{.key = "observe", .read = read_bool, LEVEL(observe)},
	{.key = "ask_timeout_ms", .read = read_u32, LEVEL(ask_timeout_ms), .min = 1, .max = 60000},
	{.key = "job_timeout_seconds",
	 .read = read_u64,
	 LEVEL(job_timeout),
	 .min = 1,
	 .max = 86400,
	 .unit = NSEC_PER_SEC},
	{0},
};

static int read_level(struct reader *reader, const struct row *row, json_t *value, void *to)
{
	int r = read_members(reader, level_rows, value, to);

	return r < 0 ? r : check_level(reader, value, to);
}

/* ---- rules for VMs ---- */

/* As config_level() looks for it: a UUID in its canonical form, a name as it is. */
static int read_match(struct reader *reader, const char *key, char **ret)
{
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	char text[UUID_TEXT_SIZE];
	const char *why;

	if (uuid_parse(uuid, key) < 0) {
		if (cpupolicy_text_check_name(key, &why) < 0)
			return fail(reader, true, "expected the name or the UUID of a VM: %s", why);
	} else {
		if (uuid_is_nil(uuid))
			return fail(reader, true, "expected the name or the UUID of a VM, not the nil UUID");
		uuid_format(text, uuid);
		key = text;
	}
	*ret = strdup(key);
	return *ret ? 0 : -ENOMEM;
}

/* jansson rejects the same key twice; a UUID can be written in more than one way. */
static int read_rule(struct reader *reader, json_t *value, json_t *seen, struct config *config)
{
	struct config_vm *vm = &config->vms[config->n_vms];
	const char *key = reader->key[reader->depth - 1], *other;
	int r = read_match(reader, key, &vm->match);

	if (r < 0)
		return r;
	config->n_vms++;
	other = json_string_value(json_object_get(seen, vm->match));
	if (other)
		return fail(reader, true, "expected each VM once; it is the same UUID as \"%s\"", other);
	if (json_object_set_new(seen, vm->match, json_string(key)) < 0)
		return -ENOMEM;
	vm->level = config->level;
	return read_level(reader, NULL, value, &vm->level);
}

static int compare_rules(const void *a, const void *b)
{
	return strcmp(((const struct config_vm *)a)->match, ((const struct config_vm *)b)->match);
}

static int read_rules(struct reader *reader, const struct row *row, json_t *object, void *to)
{
	_cleanup_(json_decrefp) json_t *seen = json_object();
	struct config *config = to;
	const char *key;
	json_t *value;
	size_t member = 0;

	if (!json_is_object(object))
		return expected(reader, object, "an object");
	if (json_object_size(object) > MAX_RULES)
		return fail(reader, false, "expected at most %d VMs", MAX_RULES);
	config->vms = calloc(json_object_size(object) + 1, sizeof(*config->vms));
	if (!seen || !config->vms)
		return -ENOMEM;
	json_object_foreach(object, key, value) {
		int r;

		push(reader, key, member++);
		r = read_rule(reader, value, seen, config);
		pop(reader);
		if (r < 0)
			return r;
	}
	qsort(config->vms, config->n_vms, sizeof(*config->vms), compare_rules);
	return 0;
}

#define CONFIG(member) MEMBER(struct config, member)

static const struct row limits_rows[] = {
	{.key = "vms", .read = read_u32, CONFIG(max_vms), .min = 1, .max = 65536},
	{.key = "connections", .read = read_u32, CONFIG(max_connections), .min = 1, .max = 65536},
	{.key = "connections_per_uid", .read = read_u32, CONFIG(max_connections_per_uid), .min = 1, .max = 65536},
	{.key = "handshake_seconds",
	 .read = read_u64,
	 CONFIG(handshake_timeout),
	 .min = 1,
	 .max = 3600,
	 .unit = NSEC_PER_SEC},
	{.key = "messages_per_second", .read = read_u32, CONFIG(messages.per_second), .min = 1, .max = 10000000},
	{.key = "messages_burst", .read = read_u32, CONFIG(messages.burst), .min = 1, .max = 10000000},
	{0},
};

static const struct row config_rows[] = {
	{.key = "socket", .read = read_text, CONFIG(socket), .check = check_socket},
	{.key = "socket_mode", .read = read_mode, CONFIG(socket_mode)},
	{.key = "socket_group", .read = read_text, CONFIG(socket_group), .check = check_group},
	{.key = "state_directory", .read = read_text, CONFIG(state_directory), .check = check_path},
	{.key = "bus", .read = read_text, CONFIG(bus), .check = check_bus},
	{.key = "limits", .read = read_object, .rows = limits_rows},
	{.key = "default", .read = read_level, CONFIG(level)},
	{.key = "vms", .read = read_rules}, /* after the default */
	{0},
};

/* ---- the whole ---- */

static struct config *new_config(void)
{
	_cleanup_(config_freep) struct config *config = calloc(1, sizeof(*config));

	if (!config)
		return NULL;
	*config = (struct config){
		.socket = strdup("/run/cpupolicy/vmm.sock"),
		.socket_mode = 0660,
		.state_directory = strdup("/var/lib/cpupolicy"),
		.bus = strdup("system"),
		.max_vms = 4096,
		.max_connections = 2048,
		.max_connections_per_uid = 1024,
		.handshake_timeout = 10 * NSEC_PER_SEC,
		.messages = {.per_second = 20000, .burst = 40000},
		.level =
			{
				.minimum = 1,
				.maximum = CPUPOLICY_MAX_VCPUS,
				/* A guest that boots asks for all its vCPUs at once: a limit without a burst allows that. */
				.cpu_on = {.per_second = 0, .burst = CPUPOLICY_MAX_VCPUS},
				.ask_timeout_ms = 1000,
				.job_timeout = 60 * NSEC_PER_SEC,
			},
	};
	if (!config->socket || !config->state_directory || !config->bus)
		return NULL;
	return TAKE(config);
}

struct config *config_free(struct config *config)
{
	if (!config)
		return NULL;
	free(config->socket);
	free(config->socket_group);
	free(config->state_directory);
	free(config->bus);
	for (size_t i = 0; i < config->n_vms; i++)
		free(config->vms[i].match);
	free(config->vms);
	free(config);
	return NULL;
}

static int read_file(const char *path, char **ret, size_t *ret_size)
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
		if (size > MAX_FILE_SIZE)
			return -EFBIG;
	}
	text[size] = '\0';
	*ret = TAKE(text);
	*ret_size = size;
	return 0;
}

static int parse(struct config *config, const char *path, const char *text, size_t size, char **ret_error)
{
	struct reader reader = {.file = path, .text = text};
	_cleanup_(json_decrefp) json_t *root = NULL;
	json_error_t error;
	int r;

	root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	if (!root) {
		if (json_error_code(&error) == json_error_out_of_memory)
			return -ENOMEM;
		if (asprintf(ret_error, "%s:%d:%d: %s", path, error.line, error.column > 0 ? error.column : 1,
			     error.text) < 0)
			*ret_error = NULL;
		return -EINVAL;
	}
	r = read_members(&reader, config_rows, root, config);
	if (r < 0 && reader.error)
		*ret_error = reader.error;
	return r;
}

int config_load(struct config **ret, const char *path, bool optional, char **ret_error)
{
	_cleanup_(config_freep) struct config *config = new_config();
	_cleanup_free_ char *text = NULL;
	char *error = NULL;
	size_t size = 0;
	int r;

	*ret_error = NULL;
	if (!config)
		return -ENOMEM;
	r = read_file(path, &text, &size);
	if (r == -ENOENT && optional) {
		*ret = TAKE(config);
		return 0;
	}
	if (r < 0) {
		if (asprintf(&error, "cannot read %s: %s", path, strerror(-r)) < 0)
			error = NULL;
	} else {
		r = parse(config, path, text, size, &error);
	}
	if (r < 0) {
		*ret_error = error;
		return r;
	}
	*ret = TAKE(config);
	return 0;
}

int config_set(struct config *config, const char *key, const char *value, char **ret_error)
{
	const struct row *row = find_row(config_rows, key);
	const char *wrong = row->check(value);

	*ret_error = NULL;
	if (wrong) {
		if (asprintf(ret_error, "%s: expected %s, not \"%s\"", key, wrong, value) < 0)
			*ret_error = NULL;
		return -EINVAL;
	}
	return replace_text((char **)((char *)config + row->offset), value);
}

static const struct config_vm *find_rule(const struct config *config, const char *match)
{
	struct config_vm key = {.match = (char *)match};

	if (config->n_vms == 0)
		return NULL;
	return bsearch(&key, config->vms, config->n_vms, sizeof(*config->vms), compare_rules);
}

const struct service_level *config_level(const struct config *config, const char *uuid, const char *name)
{
	const struct config_vm *vm = find_rule(config, uuid);

	if (!vm)
		vm = find_rule(config, name);
	return vm ? &vm->level : &config->level;
}
