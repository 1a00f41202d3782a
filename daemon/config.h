/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_CONFIG_H
#define CPUPOLICYD_CONFIG_H

/*
 * The configuration: one JSON file, read strictly. An unknown key, a wrong type, a value out of range is an error that
 * names file, line, column and what was expected. docs/man/cpupolicyd.conf.5 describes every key; config.c has one
 * table row for each.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/core/rate.h"
#include "daemon/core/service_level.h"

struct config_vm {
	char *match; /* a VM's name, or its UUID in canonical form */
	struct service_level level;
};

struct config {
	char *socket; /* the VMM listener */
	mode_t socket_mode;
	char *socket_group; /* NULL: the daemon's */
	char *state_directory;
	char *bus; /* "system", "session", "none", or a D-Bus address */
	uint32_t max_vms;
	uint32_t max_connections;         /* that have not registered a VM */
	uint32_t max_connections_per_uid; /* of those */
	uint64_t handshake_timeout;       /* ns until a connection must have registered */
	struct rate_limit messages;       /* per connection */
	struct service_level level;       /* for VMs that no rule names */
	struct config_vm *vms;            /* in order of `match` */
	size_t n_vms;
};

/* A missing file means the built-in defaults if `optional`. -EINVAL: it is not as it should be. On failure *ret_error
 * is a message to print and free, or NULL if there is no memory for one. */
int config_load(struct config **ret, const char *path, bool optional, char **ret_error);
struct config *config_free(struct config *config);

/* Replaces the file's value of "socket", "state_directory" or "bus", with the same checks. On failure as
 * config_load(). */
int config_set(struct config *config, const char *key, const char *value, char **ret_error);

/* The service level for a VM: a rule for its UUID (canonical text), else for its name, else the default. Valid as long
 * as `config`. */
const struct service_level *config_level(const struct config *config, const char *uuid, const char *name);

#endif
