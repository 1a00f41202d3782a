/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_provider.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"

/* How long a provider may take to hold one VM's CPU time. */
#define CALL_TIMEOUT_USEC (10 * UINT64_C(1000000))
#define WHY_SIZE          256
#define BUS_NO_OWNER      "org.freedesktop.DBus.Error.NameHasNoOwner"

/* A call to its object that is not answered. */
struct provider_call {
	LIST_ENTRY(provider_call) entry;
	struct bus_provider *provider;
	struct host_vm *vm;
	sd_bus_slot *slot;
};

struct bus_provider {
	LIST_ENTRY(bus_provider) entry;
	struct bus_providers *providers;
	struct host_provider *host; /* NULL: not (yet) one of the host's */
	char *sender;               /* its unique name */
	char *object;
	sd_bus_slot *watch; /* its leaving */
	sd_bus_slot *look;  /* has it left before we watched? */
	LIST_HEAD(, provider_call) calls;
};

struct bus_providers {
	LIST_HEAD(, bus_provider) list;
	struct host *host;
	struct bus_link *link;
};

/* ---- calls ---- */

static void call_free(struct provider_call *call)
{
	LIST_REMOVE(call, entry);
	sd_bus_slot_unref(call->slot);
	free(call);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct provider_call *call = userdata;
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct bus_providers *providers = call->provider->providers;
	struct host_vm *vm = call->vm;
	char why[WHY_SIZE] = "";

	if (error)
		snprintf(why, sizeof(why), "the provider says: %s (%s)",
			 error->message && *error->message ? error->message : "nothing more", error->name);
	call_free(call);
	host_provider_answer(vm, error ? why : NULL);
	bus_link_touch(providers->link);
	return 1;
}

static int hold(struct host_vm *vm, const char *uuid, uint32_t millis, void *link)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	struct bus_provider *p = link;
	sd_bus *sd = bus_link_get(p->providers->link);
	struct provider_call *call;
	int r;

	if (!sd)
		return -ENOTCONN;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->provider = p;
	call->vm = vm;
	r = sd_bus_message_new_method_call(sd, &m, p->sender, p->object, BUS_PROVIDER_INTERFACE, "SetCpuQuota");
	if (r >= 0)
		r = sd_bus_message_set_auto_start(m, false);
	if (r >= 0)
		r = sd_bus_message_append(m, "su", uuid, millis);
	if (r >= 0)
		r = sd_bus_call_async(sd, &call->slot, m, on_answer, call, CALL_TIMEOUT_USEC);
	if (r < 0) {
		free(call);
		return r;
	}
	LIST_INSERT_HEAD(&p->calls, call, entry);
	bus_link_touch(p->providers->link);
	return 0;
}

static const struct host_provider_ops provider_ops = {.hold = hold};

/* ---- coming and going ---- */

static void provider_free(struct bus_provider *p)
{
	struct provider_call *call;

	LIST_REMOVE(p, entry);
	sd_bus_slot_unref(p->watch);
	sd_bus_slot_unref(p->look);
	/* Then nobody answers any more. */
	while ((call = LIST_FIRST(&p->calls)))
		call_free(call);
	host_provider_remove(p->host);
	free(p->sender);
	free(p->object);
	free(p);
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const char *name, *old_owner, *new_owner;
	struct bus_provider *p = userdata;

	if (sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) < 0 || strcmp(name, p->sender) != 0 ||
	    *new_owner)
		return 0;
	provider_free(p);
	return 0;
}

static int on_looked(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_provider *p = userdata;

	uint32_t pid;

	p->look = sd_bus_slot_unref(p->look);
	if (sd_bus_message_is_method_error(m, BUS_NO_OWNER))
		provider_free(p);
	else if (sd_bus_message_read(m, "u", &pid) >= 0 && p->host)
		host_provider_set_process(p->host, (pid_t)pid);
	return 1;
}

/* Who leaves from now on is told of; and the question behind that finds out whether it has left already. */
static int watch(sd_bus *sd, struct bus_provider *p)
{
	char match[256];
	int r;

	snprintf(match, sizeof(match),
		 "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
		 "member='NameOwnerChanged',arg0='%s'",
		 p->sender);
	r = sd_bus_add_match_async(sd, &p->watch, match, on_owner_changed, NULL, p);
	if (r < 0)
		return r;
	return sd_bus_call_method_async(sd, &p->look, "org.freedesktop.DBus", "/org/freedesktop/DBus",
					"org.freedesktop.DBus", "GetConnectionUnixProcessID", on_looked, p, "s",
					p->sender);
}

static struct bus_provider *find_sender(const struct bus_providers *providers, const char *sender)
{
	struct bus_provider *p;

	LIST_FOREACH(p, &providers->list, entry)
		if (sender && strcmp(p->sender, sender) == 0)
			return p;
	return NULL;
}

struct host_provider *bus_provider_of(const struct bus_providers *providers, sd_bus_message *m)
{
	struct bus_provider *p = find_sender(providers, sd_bus_message_get_sender(m));

	return p ? p->host : NULL;
}

static struct bus_provider *provider_new(struct bus_providers *providers, const char *sender, const char *object)
{
	struct bus_provider *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->providers = providers;
	p->sender = strdup(sender);
	p->object = strdup(object);
	LIST_INIT(&p->calls);
	LIST_INSERT_HEAD(&providers->list, p, entry);
	if (p->sender && p->object)
		return p;
	provider_free(p);
	return NULL;
}

static void perform_register(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			     void *userdata)
{
	struct bus_providers *providers = request->context;
	const char *sender = sd_bus_message_get_sender(request->message), *name, *object;
	sd_bus *sd = bus_link_get(providers->link);
	enum host_error error;
	struct bus_provider *p;
	char why[WHY_SIZE];

	sd_bus_message_rewind(request->message, true);
	if (!sd || !sender || sd_bus_message_read(request->message, "so", &name, &object) < 0) {
		done(HOST_INVALID, "the arguments cannot be read", 0, userdata);
		return;
	}
	if (find_sender(providers, sender)) {
		done(HOST_PROVIDER_EXISTS, "the caller is a provider already", 0, userdata);
		return;
	}
	p = provider_new(providers, sender, object);
	if (!p || watch(sd, p) < 0) {
		if (p)
			provider_free(p);
		done(HOST_NO_MEMORY, "out of memory", 0, userdata);
		return;
	}
	error = host_provider_add(&p->host, host, name, uid, &provider_ops, p, why);
	if (error != HOST_OK)
		provider_free(p);
	done(error, error == HOST_OK ? NULL : why, 0, userdata);
}

int bus_provider_register(struct bus_providers *providers, struct bus_calls *calls, sd_bus_message *m,
			  sd_bus_error *ret_error)
{
	const struct bus_request request = {.action = BUS_ACTION_PROVIDE, .context = providers};

	return bus_call(calls, m, &request, perform_register, ret_error);
}

int bus_provider_append(sd_bus_message *reply, const struct host *host)
{
	int r = sd_bus_message_open_container(reply, 'a', "s");

	for (const struct host_provider *p = host_provider_next(host, NULL); p && r >= 0;
	     p = host_provider_next(host, p))
		r = sd_bus_message_append(reply, "s", host_provider_name(p));
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* ---- all of them ---- */

int bus_providers_new(struct bus_providers **ret, struct host *host)
{
	struct bus_providers *providers = calloc(1, sizeof(*providers));

	if (!providers)
		return -ENOMEM;
	LIST_INIT(&providers->list);
	providers->host = host;
	*ret = providers;
	return 0;
}

void bus_providers_set_link(struct bus_providers *providers, struct bus_link *link)
{
	providers->link = link;
}

void bus_providers_lost(struct bus_providers *providers)
{
	struct bus_provider *p;

	while ((p = LIST_FIRST(&providers->list)))
		provider_free(p);
}

struct bus_providers *bus_providers_free(struct bus_providers *providers)
{
	if (!providers)
		return NULL;
	bus_providers_lost(providers);
	free(providers);
	return NULL;
}
