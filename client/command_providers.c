/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <stdio.h>

#include "client/connection.h"
#include "client/outcome.h"
#include "client/output.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)

static void free_names(char **names)
{
	for (char **n = names; n && *n; n++)
		free(*n);
	free(names);
}

static json_t *names_json(char **names)
{
	json_t *array = json_array();

	for (char **n = names; array && n && *n; n++)
		if (json_array_append_new(array, json_string(*n)) < 0) {
			json_decref(array);
			return NULL;
		}
	return array;
}

int command_providers(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	char **names = NULL;
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = sd_bus_get_property_strv(connection_bus(c), CONNECTION_SERVICE, CONNECTION_MANAGER_PATH, CONNECTION_MANAGER,
				     "Providers", &error, &names);
	if (r < 0)
		return outcome_report("cannot list the providers", r, &error);
	r = OUTCOME_DONE;
	if (options->given & OPTION_JSON)
		r = output_json(names_json(names));
	else
		for (char **n = names; n && *n; n++)
			puts(*n);
	free_names(names);
	return r;
}
