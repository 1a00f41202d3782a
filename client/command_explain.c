/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/connection.h"
#include "client/explanation.h"
#include "client/outcome.h"
#include "client/output.h"
#include "client/table.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)
DEFINE_CLEANUP(struct table *, table_free)

static bool is_none(const char *rule)
{
	return strcmp(rule, "none") == 0;
}

static void print_conclusion(const char *vm, const struct explanation *e)
{
	if (!is_none(e->refused))
		printf("%s: a request for %" PRIu32 " vCPUs would be refused (%s); it has %" PRIu32 "\n", vm, e->count,
		       e->refused, e->target);
	else if (!is_none(e->bound))
		printf("%s: a request for %" PRIu32 " vCPUs would be accepted, and wait: %" PRIu32 " for now (%s)\n",
		       vm, e->count, e->target, e->bound);
	else if (e->target != e->count)
		printf("%s: a request for %" PRIu32 " vCPUs would be accepted, for its next start\n", vm, e->count);
	else
		printf("%s: a request for %" PRIu32 " vCPUs would be accepted, and met at once\n", vm, e->count);
}

static int print_text(const char *vm, const struct explanation *e)
{
	_cleanup_(table_freep) struct table *table = NULL;
	int r;

	r = table_new(&table, "lll");
	for (size_t i = 0; r >= 0 && i < e->n; i++) {
		r = table_add(table, e->rules[i].rule);
		if (r >= 0)
			r = table_add(table, e->rules[i].outcome);
		if (r >= 0)
			r = table_add(table, e->rules[i].sentence);
	}
	if (r < 0)
		return outcome_report("explain", r, NULL);
	print_conclusion(vm, e);
	table_print(table, stdout);
	return OUTCOME_DONE;
}

int command_explain(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	struct explanation e;
	char what[320];
	bool refused;
	int r;

	/* to the daemon that would be the count that is desired already */
	if (options->text && options->count == 0)
		return outcome_print(OUTCOME_REFUSED, "a VM has at least 1 vCPU");
	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = explanation_get(c, options->vm, options->count, &e, &error);
	if (r < 0) {
		snprintf(what, sizeof(what), "cannot explain \"%.255s\"", options->vm);
		return outcome_report(what, r, &error);
	}
	refused = !is_none(e.refused);
	r = options->given & OPTION_JSON ? output_json(explanation_json(&e)) : print_text(options->vm, &e);
	explanation_clear(&e);
	return r == OUTCOME_DONE && refused ? (int)OUTCOME_REFUSED : r;
}
