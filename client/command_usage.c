/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/bill.h"
#include "client/connection.h"
#include "client/money.h"
#include "client/outcome.h"
#include "client/output.h"
#include "client/table.h"
#include "client/when.h"
#include "daemon/base/util.h"

#define DECIMALS 3 /* of vCPU-seconds, for people; programs get all nine */

DEFINE_CLEANUP(struct connection *, connection_free)
DEFINE_CLEANUP(struct table *, table_free)

/* ---- text ---- */

static int add_amounts(struct table *table, uint64_t guaranteed_ns, uint64_t burst_ns, bool priced, uint64_t cost)
{
	char text[MONEY_TEXT_SIZE];
	int r;

	r = table_add(table, money_format_seconds((int64_t)guaranteed_ns, DECIMALS, text));
	if (r >= 0)
		r = table_add(table, money_format_seconds((int64_t)burst_ns, DECIMALS, text));
	if (r >= 0)
		r = table_add(table, priced ? money_format_full(cost, text) : "-");
	return r;
}

static int add_row(struct table *table, const struct bill_row *row, bool hours)
{
	char begin[WHEN_TEXT_SIZE];
	int r = 0;

	if (hours)
		r = table_add(table, when_format_local(row->begin, begin));
	if (r >= 0)
		r = table_add(table, *row->tenant ? row->tenant : "-");
	if (r >= 0)
		r = table_add(table, row->name);
	if (r >= 0)
		r = table_add(table, row->class);
	return r < 0 ? r : add_amounts(table, row->guaranteed_ns, row->burst_ns, row->priced, row->cost);
}

static int print_text(const struct bill *bill, bool hours)
{
	static const char *const head[] = {"BEGIN", "TENANT", "VM", "CLASS", "GUARANTEED", "BURST", "COST"};
	_cleanup_(table_freep) struct table *table = NULL;
	size_t skip = hours ? 0 : 1, texts = hours ? 4 : 3;
	int r;

	r = table_new(&table, hours ? "llllrrr" : "lllrrr");
	for (size_t i = skip; r >= 0 && i < ARRAY_SIZE(head); i++)
		r = table_add(table, head[i]);
	for (size_t i = 0; r >= 0 && i < bill->n; i++)
		r = add_row(table, &bill->rows[i], hours);
	for (size_t i = 0; r >= 0 && i < texts; i++)
		r = table_add(table, i == 0 ? "TOTAL" : "");
	if (r >= 0)
		r = add_amounts(table, bill->guaranteed_ns, bill->burst_ns, bill->priced, bill->cost);
	if (r < 0)
		return outcome_report("usage", r, NULL);
	table_print(table, stdout);
	return OUTCOME_DONE;
}

/* ---- CSV, by RFC 4180 ---- */

static void print_field(const char *text, char after)
{
	if (!text[strcspn(text, "\",\r\n")]) {
		printf("%s%c", text, after);
		return;
	}
	putchar('"');
	for (; *text; text++) {
		if (*text == '"')
			putchar('"');
		putchar(*text);
	}
	printf("\"%c", after);
}

static int print_csv(const struct bill *bill)
{
	char text[MONEY_TEXT_SIZE], when[WHEN_TEXT_SIZE];

	puts("tenant,vm,uuid,class,begin,end,guaranteed_seconds,burst_seconds,cost");
	for (size_t i = 0; i < bill->n; i++) {
		const struct bill_row *row = &bill->rows[i];

		print_field(row->tenant, ',');
		print_field(row->name, ',');
		print_field(row->uuid, ',');
		print_field(row->class, ',');
		print_field(when_format_utc(row->begin, when), ',');
		print_field(when_format_utc(row->end, when), ',');
		print_field(money_format_seconds((int64_t)row->guaranteed_ns, 9, text), ',');
		print_field(money_format_seconds((int64_t)row->burst_ns, 9, text), ',');
		print_field(row->priced ? money_format(row->cost, text) : "", '\n');
	}
	return OUTCOME_DONE;
}

/* ---- JSON ---- */

/* A decimal in a string: no reader makes a double of it unasked. */
static json_t *cost_json(bool priced, uint64_t cost)
{
	char text[MONEY_TEXT_SIZE];

	return priced ? json_string(money_format(cost, text)) : json_null();
}

static json_t *row_json(const struct bill_row *row)
{
	char begin[WHEN_TEXT_SIZE], end[WHEN_TEXT_SIZE];

	return json_pack("{s:s?, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o}", "tenant", *row->tenant ? row->tenant : NULL,
			 "vm", row->name, "uuid", row->uuid, "class", row->class, "begin",
			 when_format_utc(row->begin, begin), "end", when_format_utc(row->end, end), "guaranteed_ns",
			 (json_int_t)row->guaranteed_ns, "burst_ns", (json_int_t)row->burst_ns, "cost",
			 cost_json(row->priced, row->cost));
}

static json_t *bill_json(const struct bill *bill)
{
	json_t *rows = json_array();

	for (size_t i = 0; rows && i < bill->n; i++)
		if (json_array_append_new(rows, row_json(&bill->rows[i])) < 0) {
			json_decref(rows);
			return NULL;
		}
	return json_pack("{s:o, s:{s:I, s:I, s:o}}", "rows", rows, "total", "guaranteed_ns",
			 (json_int_t)bill->guaranteed_ns, "burst_ns", (json_int_t)bill->burst_ns, "cost",
			 cost_json(bill->priced, bill->cost));
}

/* ---- the command ---- */

static int get(struct connection *c, const struct options *options, struct bill *ret, sd_bus_error *ret_error)
{
	const char *member = options->given & OPTION_HOURS ? "GetUsageHours" : "GetUsage";
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *tenant = options->tenant;
	struct host_info host;
	int r;

	if (!tenant)
		tenant = ""; /* all */
	else if (!*tenant)
		tenant = "/"; /* without one */
	r = connection_call(c, member, ret_error, &reply, "tts", options->since, options->until, tenant);
	if (r >= 0)
		r = bill_read(ret, reply);
	if (r >= 0)
		r = host_info_get(c, &host, ret_error);
	if (r < 0)
		return r;
	bill_apply(ret, &host);
	host_info_clear(&host);
	return 0;
}

int command_usage(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	_cleanup_(bill_clear) struct bill bill = {0};
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	sd_bus_set_method_call_timeout(connection_bus(c), UINT64_MAX);
	r = get(c, options, &bill, &error);
	if (r < 0)
		return outcome_report("cannot read the usage", r, &error);
	if (options->given & OPTION_JSON)
		return output_json(bill_json(&bill));
	if (options->given & OPTION_CSV)
		return print_csv(&bill);
	return print_text(&bill, options->given & OPTION_HOURS);
}
