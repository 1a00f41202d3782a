/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Each key of the file is one row of a table below. docs/man/cpupolicyd.conf.5 has the same rows in prose. */

#include "daemon/settings/config.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/base/address.h"
#include "daemon/settings/json_table.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct config *, config_free)

/* ---- values ---- */

static int read_mode(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);
	size_t digits = text ? strspn(text, "01234567") : 0;
	unsigned long mode = digits > 0 && digits <= 4 && !text[digits] ? strtoul(text, NULL, 8) : ULONG_MAX;

	if (mode > 0777)
		return json_table_expected(reader, value, "a string of octal digits up to \"0777\"");
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

static const char *check_metrics(const char *text)
{
	union address address;
	socklen_t size;

	if (strcmp(text, "none") == 0 || address_parse(&address, &size, text) == 0)
		return NULL;
	return "\"none\", \"unix:\" and an absolute path, a loopback address and a port, or \"exposed:\" and any "
	       "address "
	       "and a port";
}

#define CONFIG(member) JSON_MEMBER(struct config, member)

static const struct json_row limits_rows[] = {
	{.key = "vms", .read = json_read_u32, CONFIG(max_vms), .min = 1, .max = 65536},
	{.key = "connections", .read = json_read_u32, CONFIG(max_connections), .min = 1, .max = 65536},
	{.key = "connections_per_uid", .read = json_read_u32, CONFIG(max_connections_per_uid), .min = 1, .max = 65536},
	{.key = "connections_per_unit",
	 .read = json_read_u32,
	 CONFIG(max_connections_per_unit),
	 .min = 1,
	 .max = 65536},
	{.key = "handshake_seconds",
	 .read = json_read_u64,
	 CONFIG(handshake_timeout),
	 .min = 1,
	 .max = 3600,
	 .unit = NSEC_PER_SEC},
	{.key = "messages_per_second", .read = json_read_u32, CONFIG(messages.per_second), .min = 1, .max = 10000000},
	{.key = "messages_burst", .read = json_read_u32, CONFIG(messages.burst), .min = 1, .max = 10000000},
	{0},
};

static const struct json_row config_rows[] = {
	{.key = "socket", .read = json_read_text, CONFIG(socket), .check = check_socket},
	{.key = "socket_mode", .read = read_mode, CONFIG(socket_mode)},
	{.key = "socket_group", .read = json_read_text, CONFIG(socket_group), .check = check_group},
	{.key = "state_directory", .read = json_read_text, CONFIG(state_directory), .check = check_path},
	{.key = "policy_directory", .read = json_read_text, CONFIG(policy_directory), .check = check_path},
	{.key = "record_directory", .read = json_read_text, CONFIG(record_directory), .check = check_path},
	{.key = "bus", .read = json_read_text, CONFIG(bus), .check = check_bus},
	{.key = "metrics", .read = json_read_text, CONFIG(metrics), .check = check_metrics},
	{.key = "metrics_group", .read = json_read_text, CONFIG(metrics_group), .check = check_group},
	{.key = "limits", .read = json_read_object, .rows = limits_rows},
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
		.policy_directory = strdup(SYSCONFDIR "/cpupolicy/policy.d"),
		.bus = strdup("system"),
		.metrics = strdup("unix:/run/cpupolicy/metrics.sock"),
		.max_vms = 4096,
		.max_connections = 2048,
		.max_connections_per_uid = 1024,
		.max_connections_per_unit = 768,
		.handshake_timeout = 10 * NSEC_PER_SEC,
		.messages = {.per_second = 20000, .burst = 40000},
	};
	if (!config->socket || !config->state_directory || !config->policy_directory || !config->bus ||
	    !config->metrics)
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
	free(config->metrics);
	free(config->metrics_group);
	free(config->policy_directory);
	free(config->record_directory);
	free(config);
	return NULL;
}

static int parse(struct config *config, const char *path, const char *text, size_t size, char **ret_error)
{
	struct json_reader reader = {.file = path, .text = text};
	_cleanup_(json_decrefp) json_t *root = NULL;
	int r = json_table_parse(&reader, size, &root);

	if (r >= 0)
		r = json_table_read(&reader, config_rows, root, config);
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
	r = json_table_read_file(path, &text, &size);
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
	const struct json_row *row = json_table_find(config_rows, key);
	const char *wrong = row->check(value);

	*ret_error = NULL;
	if (wrong) {
		if (asprintf(ret_error, "%s: expected %s, not \"%s\"", key, wrong, value) < 0)
			*ret_error = NULL;
		return -EINVAL;
	}
	return json_replace_text((char **)((char *)config + row->offset), value);
}
