/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_CONFIG_H
#define CPUPOLICYD_CONFIG_H

/*
 * The configuration of the daemon itself: one JSON file, read strictly. An unknown key, a wrong type, a value out of
 * range is an error that names file, line, column and what was expected. docs/man/cpupolicyd.conf.5 describes every key;
 * config.c has one table row for each. What VMs may have is said elsewhere: see policy.h.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/core/rate.h"

struct config {
	char *socket; /* the VMM listener */
	mode_t socket_mode;
	char *socket_group; /* NULL: the daemon's */
	char *state_directory;
	char *policy_directory; /* classes, tenants, rules: see policy.h */
	char *record_directory; /* events are recorded in a new file there; NULL: they are not; see recorder.h */
	char *bus;              /* "system", "session", "none", or a D-Bus address */
	char *metrics;          /* "none", or where they are served: see metrics.h */
	char *metrics_group;    /* of that socket file; NULL: the daemon's */
	uint32_t max_vms;
	uint32_t max_connections;          /* that have not registered a VM */
	uint32_t max_connections_per_uid;  /* of those */
	uint32_t max_connections_per_unit; /* of those, with the same unit and label */
	uint64_t handshake_timeout;        /* ns until a connection must have registered */
	struct rate_limit messages;        /* per connection */
};

/* A missing file means the built-in defaults if `optional`. -EINVAL: it is not as it should be. On failure *ret_error
 * is a message to print and free, or NULL if there is no memory for one. */
int config_load(struct config **ret, const char *path, bool optional, char **ret_error);
struct config *config_free(struct config *config);

/* Replaces the file's value of "socket", "state_directory", "policy_directory" or "bus", with the same checks. On failure as
 * config_load(). */
int config_set(struct config *config, const char *key, const char *value, char **ret_error);

#endif
