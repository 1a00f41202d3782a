/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"
#include "client/outcome.h"
#include "client/screen.h"
#include "client/terminal.h"
#include "client/top.h"
#include "client/top_view.h"
#include "daemon/base/util.h"

#define INTERVAL_MIN 100000 /* microseconds */
/* Counts that are got between two drawings, so that a host full of refused guests does not cost more than it tells. */
#define ASKS_MAX 256

DEFINE_CLEANUP(struct connection *, connection_free)

struct topping {
	struct connection *c;
	struct terminal *terminal;
	struct screen screen;
	struct top top;
	bool colours;
	bool look; /* all is to be read */
	uint64_t interval;
	uint64_t next; /* drawing, unless a key is pressed */
};

/* ---- signals ---- */

/* The names of those that are to be got: (as) at the read position. */
static void read_invalidated(struct top_vm *vm, sd_bus_message *m)
{
	const char *name;

	if (sd_bus_message_enter_container(m, 'a', "s") < 0)
		return;
	while (sd_bus_message_read_basic(m, 's', &name) > 0)
		if (strcmp(name, "Denied") == 0)
			vm->stale = true;
	sd_bus_message_exit_container(m);
}

static void on_vm_changed(struct topping *g, sd_bus_message *m)
{
	struct top_vm *vm = top_find(&g->top, sd_bus_message_get_path(m));
	uint64_t now = connection_now();

	if (!vm)
		return;
	/* what is not told again has gone on until now as it did */
	vm->info.credit = top_credit(vm, now);
	vm->credit_at = now;
	if (vm_info_read(&vm->info, m) >= 0)
		read_invalidated(vm, m);
}

static void on_properties(struct topping *g, sd_bus_message *m)
{
	const char *interface;

	if (sd_bus_message_read(m, "s", &interface) < 0)
		return;
	if (strcmp(interface, VM_INFO_INTERFACE) == 0)
		on_vm_changed(g, m);
	else if (strcmp(interface, CONNECTION_MANAGER) == 0)
		host_info_read(&g->top.host, m);
}

static void on_removed(struct topping *g, sd_bus_message *m)
{
	const char *name, *uuid, *path;

	if (sd_bus_message_read(m, "sso", &name, &uuid, &path) >= 0)
		top_remove(&g->top, path);
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct topping *g = userdata;

	if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged"))
		on_properties(g, m);
	else if (sd_bus_message_is_signal(m, CONNECTION_MANAGER, "VirtualMachineNew"))
		g->look = true;
	else if (sd_bus_message_is_signal(m, CONNECTION_MANAGER, "VirtualMachineRemoved"))
		on_removed(g, m);
	return 0;
}

static void set_there(struct topping *g, bool there)
{
	g->top.there = there;
	g->look = there;
	g->next = 0;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const char *name, *old_owner, *new_owner;

	if (sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) >= 0)
		set_there(userdata, *new_owner);
	return 0;
}

static int subscribe(struct topping *g)
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

/* ---- what is not told by signals ---- */

static int look(struct topping *g, sd_bus_error *ret_error)
{
	struct host_info host;
	struct vm_info *vms;
	size_t n;
	int r;

	g->look = false;
	r = host_info_get(g->c, &host, ret_error);
	if (r < 0)
		return r;
	host_info_clear(&g->top.host);
	g->top.host = host;
	r = connection_list(g->c, &vms, &n, ret_error);
	if (r < 0)
		return r;
	r = top_replace(&g->top, vms, n, connection_now());
	connection_list_free(vms, n);
	g->top.there = true;
	return r;
}

static void look_again(struct topping *g)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

	if (look(g, &error) < 0 && outcome_of_error(error.name) == OUTCOME_NO_DAEMON)
		set_there(g, false);
}

struct ask {
	struct topping *g;
	char path[];
};

static int on_denied(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const struct ask *ask = userdata;
	struct top_vm *vm = top_find(&ask->g->top, ask->path);

	if (!vm)
		return 1;
	vm->asked = false;
	if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "v", "t", &vm->info.denied) >= 0)
		top_count_denied(vm, connection_now());
	return 1;
}

static void ask_denied(struct topping *g, struct top_vm *vm)
{
	size_t size = strlen(vm->info.path) + 1;
	struct ask *ask = malloc(sizeof(*ask) + size);
	sd_bus_slot *slot;

	if (!ask)
		return;
	ask->g = g;
	memcpy(ask->path, vm->info.path, size);
	if (sd_bus_call_method_async(connection_bus(g->c), &slot, CONNECTION_SERVICE, vm->info.path,
				     "org.freedesktop.DBus.Properties", "Get", on_denied, ask, "ss", VM_INFO_INTERFACE,
				     "Denied") < 0) {
		free(ask);
		return;
	}
	sd_bus_slot_set_destroy_callback(slot, free);
	sd_bus_slot_set_floating(slot, true);
	sd_bus_slot_unref(slot);
	vm->stale = false;
	vm->asked = true;
}

static void count_denied(struct topping *g)
{
	unsigned asks = 0;

	for (size_t i = 0; i < g->top.n; i++) {
		struct top_vm *vm = g->top.vms[i];

		if (vm->stale && !vm->asked && asks++ < ASKS_MAX)
			ask_denied(g, vm);
		else if (!vm->stale && !vm->asked)
			top_count_denied(vm, connection_now());
	}
}

/* ---- the screen ---- */

static size_t lines(const struct topping *g)
{
	return top_view_lines(g->screen.rows);
}

static int draw(struct topping *g)
{
	_cleanup_free_ char *text = NULL;
	uint64_t now = connection_now();
	size_t size;
	FILE *out;

	top_arrange(&g->top, now, lines(g));
	top_view(&g->top, &g->screen, g->colours, now);
	out = open_memstream(&text, &size);
	if (!out)
		return -ENOMEM;
	screen_draw(&g->screen, out);
	if (fclose(out) != 0)
		return -ENOMEM;
	return size > 0 ? terminal_write(g->terminal, text, size) : 0;
}

static int fit(struct topping *g)
{
	unsigned rows, columns;

	terminal_size(g->terminal, &rows, &columns);
	if (rows != g->screen.rows || columns != g->screen.columns)
		return screen_resize(&g->screen, rows, columns);
	screen_forget(&g->screen);
	return 0;
}

/* 1: it goes on; 0: it is to end. */
static int keys(struct topping *g)
{
	for (;;) {
		int key = terminal_key(g->terminal), r;

		if (key == TERMINAL_NONE)
			return 1;
		if (key == TERMINAL_ENDED || (key != TERMINAL_REDRAW && !top_key(&g->top, key, lines(g))))
			return 0;
		r = key == TERMINAL_REDRAW ? fit(g) : 0;
		if (r < 0)
			return r;
		g->next = 0;
	}
}

/* ---- the command ---- */

static int recover(struct topping *g)
{
	int r;

	set_there(g, false);
	r = draw(g);
	for (size_t i = 0; i < g->top.n; i++)
		g->top.vms[i]->asked = false;
	while (r >= 0) {
		/* the bus may be away for long: keys are for now */
		r = connection_recover(g->c, 0);
		if (r == -ETIMEDOUT) {
			r = keys(g);
			if (r <= 0)
				return r < 0 ? r : -EINTR;
			r = draw(g);
			continue;
		}
		if (r >= 0 && subscribe(g) >= 0)
			break;
	}
	if (r < 0)
		return r;
	/* it may be back already, unseen */
	if (sd_bus_get_name_creds(connection_bus(g->c), CONNECTION_SERVICE, 0, NULL) >= 0)
		set_there(g, true);
	return 0;
}

static int turn(struct topping *g)
{
	int r;

	if (connection_now() >= g->next) {
		if (g->look)
			look_again(g);
		if (g->top.there)
			count_denied(g);
		r = draw(g);
		if (r < 0)
			return r;
		g->next = connection_now() + g->interval;
	}
	r = connection_wait(g->c, g->next);
	if (r == -ENOTCONN)
		r = recover(g);
	if (r < 0)
		return r;
	r = keys(g);
	return r == 0 ? -EINTR : r;
}

static int start(struct topping *g, int *ret_outcome)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	int r;

	r = subscribe(g);
	if (r >= 0)
		r = look(g, &error);
	if (r >= 0)
		r = connection_catch_signals(g->c);
	if (r < 0) {
		*ret_outcome = outcome_report("cannot show the host", r, &error);
		return r;
	}
	r = terminal_open(&g->terminal);
	if (r >= 0)
		r = fit(g);
	if (r < 0)
		*ret_outcome = outcome_report("terminal", r, NULL);
	return r;
}

static int run(struct topping *g)
{
	int outcome = OUTCOME_DONE, r;

	r = start(g, &outcome);
	if (r < 0)
		return outcome;
	connection_also(g->c, terminal_fd(g->terminal));
	do
		r = turn(g);
	while (r >= 0);
	connection_also(g->c, -1);
	g->terminal = terminal_close(g->terminal);
	return r == -EINTR ? (int)OUTCOME_DONE : (int)outcome_report("top", r, NULL);
}

int command_top(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	struct topping g = {.interval = options->interval < INTERVAL_MIN ? INTERVAL_MIN : options->interval};
	const char *no_colour = getenv("NO_COLOR");
	int r;

	if (!terminal_is_there())
		return outcome_print(OUTCOME_FAILED, "\"top\" needs a terminal; \"cpuctl list --json\" and "
						     "\"cpuctl watch --json\" are for programs");
	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	g.c = c;
	g.colours = !no_colour || !*no_colour;
	r = run(&g);
	terminal_close(g.terminal);
	screen_free(&g.screen);
	top_clear(&g.top);
	return r;
}
