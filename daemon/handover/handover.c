/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/handover/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/base/util.h"
#include "daemon/core/uuid.h"
#include "daemon/handover/handover_core.h"
#include "daemon/settings/json_table.h"

#define LINE_ROOM 4096u /* for all of a line but its bytes and its vCPUs */
#define VCPU_ROOM 96u

void handover_session_clear(struct handover_session *session)
{
	for (size_t i = 0; i < HANDOVER_FDS; i++)
		if (session->fds[i] >= 0)
			close(take_fd(&session->fds[i]));
	free(session->input.data);
	free(session->output.data);
	free(session->core.vcpus);
	session->input = session->output = (struct handover_bytes){0};
	session->core.vcpus = NULL;
}

int handover_state(char *ret, const char *directory)
{
	struct stat st;

	if (stat(directory, &st) < 0)
		return -errno;
	snprintf(ret, HANDOVER_STATE_SIZE, "%" PRIu64 ":%" PRIu64, (uint64_t)st.st_dev, (uint64_t)st.st_ino);
	return 0;
}

/* ---- writing ---- */

struct handover_writer {
	char *text;
	size_t size;
	size_t room;
	size_t sessions;
};

static int reserve(struct handover_writer *w, size_t more)
{
	size_t room = w->room ? w->room : 65536;
	char *text;

	if (w->size + more > HANDOVER_MAX)
		return -EFBIG;
	while (room < w->size + more)
		room *= 2;
	if (room == w->room)
		return 0;
	text = realloc(w->text, room);
	if (!text)
		return -ENOMEM;
	w->text = text;
	w->room = room;
	return 0;
}

static void __attribute__((format(printf, 2, 3))) add(struct handover_writer *w, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	w->size += (size_t)vsnprintf(w->text + w->size, w->room - w->size, format, ap);
	va_end(ap);
}

static void add_hex(struct handover_writer *w, const char *key, const uint8_t *bytes, size_t n)
{
	add(w, ",\"%s\":\"", key);
	for (size_t i = 0; i < n; i++) {
		w->text[w->size++] = "0123456789abcdef"[bytes[i] >> 4];
		w->text[w->size++] = "0123456789abcdef"[bytes[i] & 15];
	}
	add(w, "\"");
}

int handover_writer_new(struct handover_writer **ret, const char *state)
{
	struct handover_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	r = reserve(w, LINE_ROOM);
	if (r < 0) {
		handover_writer_free(w);
		return r;
	}
	add(w, "{\"handover\":%u,\"version\":\"%s\",\"state\":\"%s\"}\n", HANDOVER_FORMAT, PACKAGE_VERSION, state);
	*ret = w;
	return 0;
}

struct handover_writer *handover_writer_free(struct handover_writer *writer)
{
	if (!writer)
		return NULL;
	free(writer->text);
	free(writer);
	return NULL;
}

int handover_writer_add(struct handover_writer *writer, const struct handover_session *s)
{
	char uuid[UUID_TEXT_SIZE];
	/* The last line has its room too. */
	int r = reserve(writer, 2 * LINE_ROOM + 2 * ((size_t)s->input.size + s->output.size) +
					(size_t)s->core.possible * VCPU_ROOM);

	if (r < 0)
		return r;
	uuid_format(uuid, s->uuid);
	add(writer, "{\"vm\":\"%s\",\"slot\":%" PRIu32, uuid, s->slot);
	add(writer, ",\"connection\":%" PRIu64 ",\"page\":%" PRIu64 ",\"doorbell\":%" PRIu64,
	    s->inodes[HANDOVER_CONNECTION], s->inodes[HANDOVER_PAGE], s->inodes[HANDOVER_DOORBELL]);
	add(writer, ",\"uid\":%" PRIu32 ",\"pid\":%d,\"start_time\":%" PRIu64 ",\"features\":%" PRIu32, s->uid,
	    (int)s->pid, s->start_time, s->features);
	add(writer, ",\"opened\":%s", s->opened ? "true" : "false");
	add(writer, ",\"messages\":[%" PRIu64 ",%" PRIu64 "]", s->messages.at, s->messages.tokens);
	add_hex(writer, "token", s->token, sizeof(s->token));
	add_hex(writer, "input", s->input.data, s->input.size);
	add_hex(writer, "output", s->output.data, s->output.size);
	add(writer, ",\"core\":");
	writer->size += handover_core_print(writer->text + writer->size, writer->room - writer->size, &s->core);
	add(writer, "}\n");
	writer->sessions++;
	return 0;
}

static int write_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, text, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		size -= (size_t)n;
	}
	return 0;
}

int handover_writer_finish(struct handover_writer *writer, int *ret_fd)
{
	_cleanup_close_ int fd = memfd_create("cpupolicy-handover", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	add(writer, "{\"end\":%zu}\n", writer->sessions);
	r = write_all(fd, writer->text, writer->size);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* ---- reading ---- */

struct handover {
	struct handover_session *sessions; /* in order of their UUIDs */
	size_t n;
	size_t room;
};

/* What any of the three kinds of lines says. */
struct raw {
	uint32_t format;
	char *version;
	char *state;
	uint32_t end;
	uint32_t pid;
	struct handover_session session;
};

static int read_uuid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);

	if (!text || uuid_parse(to, text) < 0 || uuid_is_nil(to))
		return json_table_expected(reader, value, "a UUID");
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hex(uint8_t *ret, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(text[2 * i]), low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

		if (low < 0)
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int read_token(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	if (json_string_length(value) != 2 * CPUPOLICY_TOKEN_SIZE ||
	    !parse_hex(to, json_string_value(value), CPUPOLICY_TOKEN_SIZE))
		return json_table_expected(reader, value, "a token");
	return 0;
}

/* At most row->max bytes. */
static int read_bytes(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct handover_bytes *bytes = to;
	size_t length = json_string_length(value);

	if (!json_is_string(value) || length % 2 != 0 || length / 2 > row->max)
		return json_table_expected(reader, value, "bytes in hexadecimal digits");
	if (length == 0)
		return 0;
	bytes->data = malloc(length / 2);
	if (!bytes->data)
		return -ENOMEM;
	bytes->size = (uint32_t)(length / 2);
	if (!parse_hex(bytes->data, json_string_value(value), bytes->size))
		return json_table_expected(reader, value, "bytes in hexadecimal digits");
	return 0;
}

static const char *check_any(const char *text)
{
	return NULL;
}

#define RAW(member)     JSON_MEMBER(struct raw, member)
#define SESSION(member) RAW(session.member)

static const struct json_row first_rows[] = {
	{.key = "handover",
	 .read = json_read_u32,
	 RAW(format),
	 .min = HANDOVER_FORMAT,
	 .max = HANDOVER_FORMAT,
	 .required = true},
	{.key = "version", .read = json_read_text, RAW(version), .check = check_any, .required = true},
	{.key = "state", .read = json_read_text, RAW(state), .check = check_any, .required = true},
	{0},
};

static const struct json_row session_rows[] = {
	{.key = "vm", .read = read_uuid, SESSION(uuid), .required = true},
	{.key = "token", .read = read_token, SESSION(token), .required = true},
	{.key = "slot", .read = json_read_u32, SESSION(slot), .max = SERVICE_SLOTS_MAX - 1, .required = true},
	{.key = "connection", .read = json_read_u64, SESSION(inodes[0]), .max = INT64_MAX, .required = true},
	{.key = "page", .read = json_read_u64, SESSION(inodes[1]), .max = INT64_MAX, .required = true},
	{.key = "doorbell", .read = json_read_u64, SESSION(inodes[2]), .max = INT64_MAX, .required = true},
	{.key = "uid", .read = json_read_u32, SESSION(uid), .max = UINT32_MAX, .required = true},
	{.key = "pid", .read = json_read_u32, RAW(pid), .max = INT32_MAX, .required = true},
	{.key = "start_time", .read = json_read_u64, SESSION(start_time), .max = INT64_MAX, .required = true},
	{.key = "features", .read = json_read_u32, SESSION(features), .max = UINT32_MAX, .required = true},
	{.key = "opened", .read = json_read_bool, SESSION(opened), .required = true},
	{.key = "messages", .read = handover_core_read_rate, SESSION(messages), .required = true},
	{.key = "input", .read = read_bytes, SESSION(input), .max = HANDOVER_INPUT_MAX, .required = true},
	{.key = "output", .read = read_bytes, SESSION(output), .max = HANDOVER_OUTPUT_MAX, .required = true},
	{.key = "core", .read = handover_core_read, SESSION(core), .required = true},
	{0},
};

static const struct json_row last_rows[] = {
	{.key = "end", .read = json_read_u32, RAW(end), .max = UINT32_MAX, .required = true},
	{0},
};

static void raw_clear(struct raw *raw)
{
	free(raw->version);
	free(raw->state);
	handover_session_clear(&raw->session);
}

/* The line that begins at *at, which moves on; it ends with a newline. */
static int read_line(struct json_reader *reader, const char *text, size_t size, size_t *at, const struct json_row *rows,
		     struct raw *ret)
{
	const char *line = text + *at, *end = memchr(line, '\n', size - *at);
	_cleanup_(json_decrefp) json_t *root = NULL;
	int r;

	*ret = (struct raw){.session = {.fds = {-1, -1, -1}}};
	reader->text = line;
	if (!end) {
		if (asprintf(&reader->error, "%s:%u: it is cut off", reader->file, reader->line + 1) < 0)
			reader->error = NULL;
		return -EINVAL;
	}
	r = json_table_parse(reader, (size_t)(end - line), &root);
	if (r >= 0)
		r = json_table_read(reader, rows, root, ret);
	*at = (size_t)(end - text) + 1;
	reader->line++;
	return r;
}

static int take_session(struct handover *h, struct raw *raw)
{
	struct handover_session *sessions = h->sessions;

	if (h->n == h->room) {
		size_t room = h->room ? 2 * h->room : 64;

		sessions = reallocarray(sessions, room, sizeof(*sessions));
		if (!sessions)
			return -ENOMEM;
		h->sessions = sessions;
		h->room = room;
	}
	raw->session.pid = (pid_t)raw->pid;
	h->sessions[h->n++] = raw->session;
	raw->session = (struct handover_session){.fds = {-1, -1, -1}};
	return 0;
}

static bool is_last(const char *text, size_t size, size_t at)
{
	static const char begin[] = "{\"end\":";

	return size - at >= sizeof(begin) - 1 && memcmp(text + at, begin, sizeof(begin) - 1) == 0;
}

static int wrong(struct json_reader *reader, const char *why)
{
	if (asprintf(&reader->error, "%s: %s", reader->file, why) < 0)
		reader->error = NULL;
	return -EINVAL;
}

static int read_first(struct json_reader *reader, const char *text, size_t size, size_t *at, const char *state)
{
	struct raw raw;
	int r = read_line(reader, text, size, at, first_rows, &raw);

	if (r >= 0 && strcmp(raw.state, state) != 0)
		r = wrong(reader, "it is of another state directory");
	raw_clear(&raw);
	return r;
}

static int read_sessions(struct json_reader *reader, const char *text, size_t size, size_t *at, struct handover *h)
{
	int r = 0;

	while (r >= 0 && !is_last(text, size, *at)) {
		struct raw raw;

		r = read_line(reader, text, size, at, session_rows, &raw);
		if (r >= 0)
			r = take_session(h, &raw);
		raw_clear(&raw);
	}
	return r;
}

static int read_last(struct json_reader *reader, const char *text, size_t size, size_t *at, const struct handover *h)
{
	struct raw raw;
	int r = read_line(reader, text, size, at, last_rows, &raw);

	if (r >= 0 && (raw.end != h->n || *at != size))
		r = wrong(reader, "it does not end where it says");
	raw_clear(&raw);
	return r;
}

static int compare(const void *a, const void *b)
{
	return memcmp(((const struct handover_session *)a)->uuid, ((const struct handover_session *)b)->uuid,
		      CPUPOLICY_UUID_SIZE);
}

/* Two sessions of one VM, or with the same descriptors, are none that this daemon has written. */
static int check_unique(struct json_reader *reader, const struct handover *h)
{
	_cleanup_free_ uint8_t *slots = calloc(SERVICE_SLOTS_MAX, 1);

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < h->n; i++) {
		if (slots[h->sessions[i].slot]++ > 0)
			return wrong(reader, "two sessions have the same descriptors");
		if (i > 0 && compare(&h->sessions[i - 1], &h->sessions[i]) == 0)
			return wrong(reader, "two sessions are of the same VM");
	}
	return 0;
}

DEFINE_CLEANUP(struct handover *, handover_free)

int handover_parse(struct handover **ret, const char *text, size_t size, const char *state, char **ret_error)
{
	_cleanup_(handover_freep) struct handover *h = calloc(1, sizeof(*h));
	struct json_reader reader = {.file = "handover"};
	size_t at = 0;
	int r;

	*ret_error = NULL;
	if (!h)
		return -ENOMEM;
	r = read_first(&reader, text, size, &at, state);
	if (r >= 0)
		r = read_sessions(&reader, text, size, &at, h);
	if (r >= 0)
		r = read_last(&reader, text, size, &at, h);
	if (r >= 0) {
		if (h->n > 0)
			qsort(h->sessions, h->n, sizeof(*h->sessions), compare);
		r = check_unique(&reader, h);
	}
	if (r < 0) {
		*ret_error = reader.error;
		return r;
	}
	*ret = TAKE(h);
	return 0;
}

struct handover *handover_free(struct handover *handover)
{
	if (!handover)
		return NULL;
	for (size_t i = 0; i < handover->n; i++)
		handover_session_clear(&handover->sessions[i]);
	free(handover->sessions);
	free(handover);
	return NULL;
}

size_t handover_count(const struct handover *handover)
{
	return handover->n;
}

struct handover_session *handover_at(struct handover *handover, size_t i)
{
	return &handover->sessions[i];
}

struct handover_session *handover_find(struct handover *handover, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	struct handover_session key;

	if (handover->n == 0)
		return NULL;
	memcpy(key.uuid, uuid, sizeof(key.uuid));
	return bsearch(&key, handover->sessions, handover->n, sizeof(key), compare);
}
