/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_CONNECTION_H
#define CPUCTL_CONNECTION_H

/* cpuctl's side of the bus: one connection, calls to the daemon, and waiting that Ctrl-C can end. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "client/vm_info.h"

#define CONNECTION_SERVICE      "org.cpupolicy1"
#define CONNECTION_MANAGER_PATH "/org/cpupolicy1"
#define CONNECTION_MANAGER      "org.cpupolicy1.Manager"

struct connection;

/* `bus`: "system", "session" or a D-Bus address. Says on standard error what is wrong. 0, or an enum outcome. */
int connection_new(struct connection **ret, const char *bus);
struct connection *connection_free(struct connection *c);
sd_bus *connection_bus(const struct connection *c);

/* SIGINT and SIGTERM end connection_wait() instead of the process. */
int connection_catch_signals(struct connection *c);

/* Microseconds of CLOCK_MONOTONIC. */
uint64_t connection_now(void);
/* connection_wait() returns 1 also when this descriptor can be read; -1: none. */
void connection_also(struct connection *c, int fd);
/* Handles messages that are there, or waits for some until `until` (UINT64_MAX: for ever). 1: handled some; 0: time is
 * up; -EINTR: a signal; -ENOTCONN: the bus went away. */
int connection_wait(struct connection *c, uint64_t until);
/* After -ENOTCONN: tries to have a new connection, quietly, until `until`. Matches and calls are gone. 0; -ETIMEDOUT; -EINTR. */
int connection_recover(struct connection *c, uint64_t until);

/* Calls a method of the manager; `signature` and what follows as sd_bus_call_method() has it. */
int connection_call(struct connection *c, const char *member, sd_bus_error *ret_error, sd_bus_message **ret_reply,
		    const char *signature, ...);
/* A VM by name or UUID. -ENOENT etc. with *ret_error set. */
int connection_find(struct connection *c, const char *vm, char **ret_path, sd_bus_error *ret_error);
/* All properties of the VM at `path`; `vcpus`: those too. *ret is initialised on success only. */
int connection_get(struct connection *c, const char *path, bool vcpus, struct vm_info *ret, sd_bus_error *ret_error);
/* All VMs; in order of their names. */
int connection_list(struct connection *c, struct vm_info **ret, size_t *ret_n, sd_bus_error *ret_error);
void connection_list_free(struct vm_info *vms, size_t n);

#endif
