/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "client/connection.h"
#include "client/outcome.h"
#include "client/output.h"
#include "client/table.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)
DEFINE_CLEANUP(struct table *, table_free)

static int add_row(struct table *table, const struct vm_info *vm)
{
	int r;

	r = table_add(table, vm->name);
	if (r >= 0)
		r = table_add(table, vm->state);
	if (r >= 0)
		r = table_add(table, *vm->tenant ? vm->tenant : "-");
	if (r >= 0)
		r = table_add(table, vm->class);
	if (r >= 0)
		r = table_add(table, vm->enforcement);
	if (r >= 0)
		r = table_addf(table, "%" PRIu32, vm->possible);
	if (r >= 0)
		r = table_addf(table, "%" PRIu32, vm->desired);
	if (r >= 0)
		r = table_addf(table, "%" PRIu32, vm->target);
	if (r >= 0)
		r = table_addf(table, "%" PRIu32, vm->enabled);
	if (r >= 0)
		r = table_addf(table, "%" PRIu32, vm->online);
	if (r >= 0)
		r = table_addf(table, "%" PRIu32, vm->overdue);
	if (r >= 0)
		r = table_addf(table, "%" PRIu64, vm->denied);
	if (r >= 0)
		r = table_add(table, strcmp(vm->target_reason, "none") == 0 ? "" : vm->target_reason);
	return r;
}

static int print_text(const struct vm_info *vms, size_t n)
{
	static const char *const head[] = {"NAME",   "STATE",   "TENANT", "CLASS",   "BY",     "POSSIBLE", "DESIRED",
					   "TARGET", "ENABLED", "ONLINE", "OVERDUE", "DENIED", "WHY"};
	_cleanup_(table_freep) struct table *table = NULL;
	int r;

	r = table_new(&table, "lllllrrrrrrrl");
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(head); i++)
		r = table_add(table, head[i]);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = add_row(table, &vms[i]);
	if (r < 0)
		return outcome_report("list", r, NULL);
	table_print(table, stdout);
	return OUTCOME_DONE;
}

static int print_json(const struct vm_info *vms, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < n; i++)
		if (json_array_append_new(array, vm_info_json(&vms[i])) < 0) {
			json_decref(array);
			array = NULL;
		}
	return output_json(array);
}

static int print_names(const struct vm_info *vms, size_t n)
{
	for (size_t i = 0; i < n; i++)
		puts(vms[i].name);
	return OUTCOME_DONE;
}

int command_list(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	struct vm_info *vms;
	size_t n;
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = connection_list(c, &vms, &n, &error);
	if (r < 0)
		return outcome_report("cannot list the VMs", r, &error);
	if (options->given & OPTION_NAMES)
		r = print_names(vms, n);
	else if (options->given & OPTION_JSON)
		r = print_json(vms, n);
	else
		r = print_text(vms, n);
	connection_list_free(vms, n);
	return r;
}
