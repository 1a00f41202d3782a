/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "daemon/settings/json_table.h"
#include "daemon/base/util.h"

#define FORMAT 1u

/* ---- writing ---- */

static json_t *to_json(const struct host_vm *vm, const struct host_transfer *transfer)
{
	json_t *credit = NULL;

	if (transfer->credit)
		credit = json_pack("{s:I, s:b}", "balance_ns", (json_int_t)transfer->balance, "spent",
				   (int)transfer->spent);
	return json_pack("{s:i, s:s, s:s, s:s*, s:s*, s:o*}", "format", (int)FORMAT, "name", host_vm_name(vm), "uuid",
			 host_vm_uuid(vm), "class", transfer->assigned_class, "tenant", transfer->assigned_tenant,
			 "credit", credit);
}

enum host_error bus_transfer_export(struct host *host, const char *vm, char **ret)
{
	_cleanup_(json_decrefp) json_t *json = NULL;
	struct host_vm *found = host_find(host, vm);
	struct host_transfer transfer;
	enum host_error error;
	char *text;

	error = found ? host_export(host, vm, &transfer) : HOST_NO_SUCH_VM;
	if (error != HOST_OK)
		return error;
	json = to_json(found, &transfer);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!text)
		return HOST_NO_MEMORY;
	*ret = text;
	return HOST_OK;
}

/* ---- reading ---- */

struct state {
	uint32_t format;
	char *name, *uuid, *class, *tenant;
	struct host_transfer transfer;
};

/* Any text will do: what it names is looked up by the host. */
static const char *check_text(const char *text)
{
	return text[strcspn(text, "\"\n\r")] ? "a name" : NULL;
}

static int read_balance(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < -CLASS_CREDIT_MAX || n > CLASS_CREDIT_MAX)
		return json_table_expected(reader, value, "an integer from %" PRId64 " to %" PRId64, -CLASS_CREDIT_MAX,
					   CLASS_CREDIT_MAX);
	*(int64_t *)to = n;
	return 0;
}

static int read_credit(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct host_transfer *transfer = to;

	transfer->credit = true;
	return json_table_read(reader, row->rows, value, transfer);
}

#define TEXT(member) .read = json_read_text, JSON_MEMBER(struct state, member), .check = check_text

static const struct json_row credit_rows[] = {
	{.key = "balance_ns", .read = read_balance, JSON_MEMBER(struct host_transfer, balance), .required = true},
	{.key = "spent", .read = json_read_bool, JSON_MEMBER(struct host_transfer, spent), .required = true},
	{0},
};

static const struct json_row rows[] = {
	{.key = "format",
	 .read = json_read_u32,
	 JSON_MEMBER(struct state, format),
	 .min = FORMAT,
	 .max = FORMAT,
	 .required = true},
	{.key = "name", TEXT(name)},
	{.key = "uuid", TEXT(uuid)},
	{.key = "class", TEXT(class)},
	{.key = "tenant", TEXT(tenant)},
	{.key = "credit", .read = read_credit, JSON_MEMBER(struct state, transfer), .rows = credit_rows},
	{0},
};

static void state_clear(struct state *state)
{
	free(state->name);
	free(state->uuid);
	free(state->class);
	free(state->tenant);
}

static int parse(const char *text, struct state *ret, char **ret_error)
{
	struct json_reader reader = {.file = "state", .text = text};
	_cleanup_(json_decrefp) json_t *json = NULL;
	int r;

	r = json_table_parse(&reader, strlen(text), &json);
	if (r >= 0)
		r = json_table_read(&reader, rows, json, ret);
	*ret_error = reader.error;
	return r;
}

void bus_transfer_import(struct host *host, const char *vm, const char *text, uid_t uid, host_done_fn done,
			 void *userdata)
{
	_cleanup_(state_clear) struct state state = {0};
	_cleanup_free_ char *error = NULL;

	if (parse(text, &state, &error) < 0) {
		done(error ? HOST_INVALID : HOST_NO_MEMORY, error ? error : "out of memory", 0, userdata);
		return;
	}
	state.transfer.assigned_class = state.class;
	state.transfer.assigned_tenant = state.tenant;
	host_import(host, vm, &state.transfer, uid, done, userdata);
}
