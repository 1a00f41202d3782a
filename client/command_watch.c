/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"
#include "client/outcome.h"
#include "client/watch.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)

struct watching {
	struct connection *c;
	struct watch watch;
	bool there; /* the daemon */
	bool look;  /* the list is to be read */
};

/* ---- signals ---- */

static void on_properties(struct watching *g, sd_bus_message *m)
{
	struct watched *one = watch_find(&g->watch, sd_bus_message_get_path(m));
	const char *interface;

	if (!one || sd_bus_message_read(m, "s", &interface) < 0 || strcmp(interface, VM_INFO_INTERFACE) != 0)
		return;
	if (vm_info_read(&one->vm, m) >= 0)
		watch_tell(&g->watch, one);
}

static void on_denied(struct watching *g, sd_bus_message *m)
{
	const struct watched *one = watch_find(&g->watch, sd_bus_message_get_path(m));
	struct watch_denied denied;
	int enforced;

	if (!one ||
	    sd_bus_message_read(m, "usubs", &denied.vcpu, &denied.reason, &denied.count, &enforced, &denied.rule) < 0)
		return;
	denied.enforced = enforced;
	watch_tell_denied(&g->watch, one, &denied);
}

static void on_job(struct watching *g, sd_bus_message *m, bool removed)
{
	const char *job, *vm, *result = NULL;
	const struct watched *one;
	uint64_t id;

	if (sd_bus_message_read(m, "tos", &id, &job, &vm) < 0 || (removed && sd_bus_message_read(m, "s", &result) < 0))
		return;
	one = watch_find_name(&g->watch, vm);
	if (one)
		watch_tell_job(&g->watch, one, id, result);
}

static void on_removed(struct watching *g, sd_bus_message *m)
{
	const char *name, *uuid, *path;

	if (sd_bus_message_read(m, "sso", &name, &uuid, &path) >= 0)
		watch_remove(&g->watch, path);
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct watching *g = userdata;

	if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged"))
		on_properties(g, m);
	else if (sd_bus_message_is_signal(m, VM_INFO_INTERFACE, "Denied"))
		on_denied(g, m);
	else if (sd_bus_message_is_signal(m, CONNECTION_MANAGER, "JobNew"))
		on_job(g, m, false);
	else if (sd_bus_message_is_signal(m, CONNECTION_MANAGER, "JobRemoved"))
		on_job(g, m, true);
	else if (sd_bus_message_is_signal(m, CONNECTION_MANAGER, "VirtualMachineNew"))
		g->look = true;
	else if (sd_bus_message_is_signal(m, CONNECTION_MANAGER, "VirtualMachineRemoved"))
		on_removed(g, m);
	return 0;
}

static void set_there(struct watching *g, bool there)
{
	if (g->there != there)
		watch_tell_daemon(&g->watch, there);
	g->there = there;
	g->look = there;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const char *name, *old_owner, *new_owner;

	if (sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) >= 0)
		set_there(userdata, *new_owner);
	return 0;
}

static int subscribe(struct watching *g)
{
	sd_bus *bus = connection_bus(g->c);
	int r;

	r = sd_bus_add_match(
		bus, NULL, "type='signal',sender='" CONNECTION_SERVICE "',path_namespace='" CONNECTION_MANAGER_PATH "'",
		on_signal, g);
	if (r < 0)
		return r;
	return sd_bus_add_match(bus, NULL,
				"type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
				"member='NameOwnerChanged',arg0='" CONNECTION_SERVICE "'",
				on_owner, g);
}

/* ---- the list ---- */

static int look(struct watching *g, const char *event, sd_bus_error *ret_error)
{
	struct vm_info *vms;
	size_t n;
	int r;

	g->look = false;
	r = connection_list(g->c, &vms, &n, ret_error);
	if (r < 0)
		return r;
	watch_replace(&g->watch, vms, n, event);
	connection_list_free(vms, n);
	return 0;
}

static void look_again(struct watching *g)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

	if (look(g, "new", &error) < 0 && outcome_of_error(error.name) == OUTCOME_NO_DAEMON)
		set_there(g, false);
}

static int recover(struct watching *g)
{
	int r;

	set_there(g, false);
	do {
		r = connection_recover(g->c, UINT64_MAX);
		if (r < 0)
			return r;
		r = subscribe(g);
	} while (r < 0);
	/* it may be back already, unseen */
	r = sd_bus_get_name_creds(connection_bus(g->c), CONNECTION_SERVICE, 0, NULL);
	if (r >= 0)
		set_there(g, true);
	return 0;
}

static int watch_all(struct watching *g)
{
	for (;;) {
		int r;

		if (g->look)
			look_again(g);
		if (g->watch.outcome != OUTCOME_DONE)
			return g->watch.outcome;
		r = connection_wait(g->c, UINT64_MAX);
		if (r == -ENOTCONN)
			r = recover(g);
		if (r == -EINTR)
			return OUTCOME_DONE;
		if (r < 0)
			return outcome_report("cannot watch", r, NULL);
	}
}

static int start(struct watching *g, const char *vm, char **ret_path)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	char what[320] = "cannot watch";
	int r = 0;

	if (vm) {
		snprintf(what, sizeof(what), "cannot watch \"%s\"", vm);
		r = connection_find(g->c, vm, ret_path, &error);
		g->watch.only = *ret_path;
	}
	if (r >= 0)
		r = subscribe(g);
	if (r >= 0)
		r = look(g, "present", &error);
	if (r >= 0)
		r = connection_catch_signals(g->c);
	return r < 0 ? (int)outcome_report(what, r, &error) : OUTCOME_DONE;
}

int command_watch(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_free_ char *path = NULL;
	struct watching g = {.there = true};
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	g.c = c;
	g.watch.json = options->given & OPTION_JSON;
	r = start(&g, options->vm, &path);
	if (r == OUTCOME_DONE)
		r = watch_all(&g);
	watch_clear(&g.watch);
	return r;
}
