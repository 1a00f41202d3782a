/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/provider.h"

#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"
#include "daemon/bus/bus_link.h"

#define SERVICE       "org.cpupolicy1"
#define PATH          "/org/cpupolicy1"
#define MANAGER       "org.cpupolicy1.Manager"
#define OUR_NAME      "libvirt"
#define OUR_PATH      "/org/cpupolicy1/provider/libvirt"
#define OUR_INTERFACE "org.cpupolicy1.Provider"
/* In a message, so that a host of any size stays within the bus' limits. */
#define BATCH 256

#define BACKOFF_FIRST (1 * NSEC_PER_SEC)
#define BACKOFF_LAST  (60 * NSEC_PER_SEC)

struct provider {
	struct loop *loop;
	struct bus_link *link;
	sd_bus *sd; /* NULL: no bus */
	struct loop_timer *retry;
	uint64_t backoff;
	const struct provider_ops *ops;
	void *userdata;
	sd_bus_slot *object, *owner, *registration;
	char *daemon; /* its unique name; NULL: it is not there */
	bool ready;
	bool complained;
};

/* ---- requests to us ---- */

struct provider_quota {
	struct provider *provider;
	sd_bus_message *call;
};

static void end_quota(struct provider_quota *q)
{
	sd_bus_message_unref(q->call);
	bus_link_touch(q->provider->link);
	free(q);
}

void provider_answer(struct provider_quota *q)
{
	sd_bus_reply_method_return(q->call, "");
	end_quota(q);
}

void provider_refuse(struct provider_quota *q, const char *name, const char *message)
{
	char full[128];

	snprintf(full, sizeof(full), SERVICE ".Error.%s", name);
	sd_bus_reply_method_errorf(q->call, full, "%s", message);
	end_quota(q);
}

static int on_set_quota(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct provider *p = userdata;
	struct provider_quota *q;
	const char *uuid;
	uint32_t millis;
	int r;

	if (!p->daemon || !sd_bus_message_get_sender(m) || strcmp(sd_bus_message_get_sender(m), p->daemon) != 0)
		return sd_bus_error_set(ret_error, SD_BUS_ERROR_ACCESS_DENIED, "only cpupolicyd may ask for that");
	r = sd_bus_message_read(m, "su", &uuid, &millis);
	if (r < 0)
		return r;
	if (millis == 0)
		return sd_bus_error_set(ret_error, SD_BUS_ERROR_INVALID_ARGS,
					"0 would stop the machine: a number of thousandths of a CPU is expected");
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	*q = (struct provider_quota){.provider = p, .call = sd_bus_message_ref(m)};
	p->ops->set_quota(uuid, millis, q, p->userdata);
	return 1;
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("SetCpuQuota", SD_BUS_ARGS("s", uuid, "u", millis), SD_BUS_NO_RESULT, on_set_quota,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

/* ---- registration ---- */

static void lose(struct provider *p)
{
	bool was = p->ready;

	p->ready = false;
	free(TAKE(p->daemon));
	p->registration = sd_bus_slot_unref(p->registration);
	if (was)
		p->ops->lost(p->userdata);
}

static void try_again(struct provider *p)
{
	loop_timer_set(p->retry, loop_now(p->loop) + p->backoff);
	p->backoff = p->backoff * 2 < BACKOFF_LAST ? p->backoff * 2 : BACKOFF_LAST;
}

static int on_registered(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct provider *p = userdata;

	p->registration = sd_bus_slot_unref(p->registration);
	if (error) {
		if (!p->complained)
			log_warning("the daemon does not take us for a provider: %s; trying again", error->message);
		p->complained = true;
		try_again(p);
		return 1;
	}
	log_info("registered with the daemon");
	p->complained = false;
	p->backoff = BACKOFF_FIRST;
	p->ready = true;
	p->ops->ready(p->userdata);
	return 1;
}

static int on_found(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct provider *p = userdata;
	const char *daemon;
	int r;

	p->registration = sd_bus_slot_unref(p->registration);
	if (sd_bus_message_get_error(m)) {
		if (!p->complained)
			log_warning("cpupolicyd is not on the bus yet");
		p->complained = true;
		return 1; /* its coming is told */
	}
	r = sd_bus_message_read(m, "s", &daemon);
	if (r >= 0) {
		free(p->daemon);
		p->daemon = strdup(daemon);
		r = p->daemon ? 0 : -ENOMEM;
	}
	/* it may ask for something before it has answered */
	if (r >= 0)
		r = sd_bus_call_method_async(p->sd, &p->registration, p->daemon, PATH, MANAGER, "RegisterProvider",
					     on_registered, p, "so", OUR_NAME, OUR_PATH);
	if (r < 0)
		try_again(p);
	return 1;
}

/* First who it is: it alone may ask for quotas. */
static int ask_to_register(struct provider *p)
{
	p->registration = sd_bus_slot_unref(p->registration);
	return sd_bus_call_method_async(p->sd, &p->registration, "org.freedesktop.DBus", "/org/freedesktop/DBus",
					"org.freedesktop.DBus", "GetNameOwner", on_found, p, "s", SERVICE);
}

static void on_retry(void *userdata)
{
	struct provider *p = userdata;

	if (!p->sd || p->ready)
		return;
	if (ask_to_register(p) < 0)
		try_again(p);
	bus_link_touch(p->link);
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct provider *p = userdata;
	const char *name, *before, *after;

	if (sd_bus_message_read(m, "sss", &name, &before, &after) < 0)
		return 0;
	lose(p);
	loop_timer_set(p->retry, UINT64_MAX);
	p->backoff = BACKOFF_FIRST;
	if (*after && ask_to_register(p) < 0)
		try_again(p);
	return 0;
}

static int opened(sd_bus *sd, void *userdata)
{
	struct provider *p = userdata;
	int r;

	r = sd_bus_add_object_vtable(sd, &p->object, OUR_PATH, OUR_INTERFACE, vtable, p);
	if (r >= 0)
		r = sd_bus_add_match_async(sd, &p->owner,
					   "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
					   "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" SERVICE
					   "'",
					   on_owner, NULL, p);
	if (r < 0)
		return r;
	p->sd = sd;
	return ask_to_register(p);
}

static void lost(sd_bus *sd, void *userdata)
{
	struct provider *p = userdata;

	lose(p);
	p->object = sd_bus_slot_unref(p->object);
	p->owner = sd_bus_slot_unref(p->owner);
	loop_timer_set(p->retry, UINT64_MAX);
	p->sd = NULL;
}

static const struct bus_link_ops link_ops = {.opened = opened, .lost = lost};

/* ---- what we say ---- */

static int append_text(sd_bus_message *m, const char *key, const char *value)
{
	return value ? sd_bus_message_append(m, "{sv}", key, "s", value) : 0;
}

static int append_domain(sd_bus_message *m, const struct provider_domain *d)
{
	int r = sd_bus_message_open_container(m, 'r', "ssa{sv}");

	if (r >= 0)
		r = sd_bus_message_append(m, "ss", d->uuid, d->name);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0 && d->has_uid)
		r = sd_bus_message_append(m, "{sv}", "uid", "u", d->uid);
	if (r >= 0)
		r = append_text(m, "label", d->label);
	if (r >= 0)
		r = append_text(m, "class", d->class);
	if (r >= 0)
		r = append_text(m, "tenant", d->tenant);
	if (r >= 0 && d->desired)
		r = sd_bus_message_append(m, "{sv}", "desired", "u", d->desired);
	if (r >= 0)
		r = sd_bus_message_append(m, "{sv}", "quota", "b", (int)d->can_hold);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

/* What is announced is all or none. */
struct batch {
	struct provider *provider;
	char **uuids;
	size_t n;
};

static void batch_free(void *userdata)
{
	struct batch *batch = userdata;

	for (size_t i = 0; batch && i < batch->n; i++)
		free(batch->uuids[i]);
	if (batch)
		free(batch->uuids);
	free(batch);
}

static struct batch *batch_new(struct provider *p, const struct provider_domain *domains, size_t n)
{
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return NULL;
	batch->provider = p;
	batch->uuids = calloc(n, sizeof(char *));
	while (batch->uuids && batch->n < n && (batch->uuids[batch->n] = strdup(domains[batch->n].uuid)))
		batch->n++;
	if (batch->n == n)
		return batch;
	batch_free(batch);
	return NULL;
}

static int on_announced(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);
	const struct batch *batch = userdata;
	struct provider *p = batch->provider;

	if (!error)
		return 1;
	if (batch->n > 1)
		p->ops->refused(batch->uuids, batch->n, p->userdata);
	else
		log_warning("the daemon does not take what is announced of the domain %s: %s", batch->uuids[0],
			    error->message);
	return 1;
}

static int announce(struct provider *p, const struct provider_domain *domains, size_t n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	struct batch *batch = batch_new(p, domains, n);
	sd_bus_slot *slot;
	int r = batch ? sd_bus_message_new_method_call(p->sd, &m, SERVICE, PATH, MANAGER, "Announce") : -ENOMEM;

	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(ssa{sv})");
	for (size_t i = 0; i < n && r >= 0; i++)
		r = append_domain(m, &domains[i]);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	/* without an end of time: the daemon answers when its disk has it */
	if (r >= 0)
		r = sd_bus_call_async(p->sd, &slot, m, on_announced, batch, UINT64_MAX);
	if (r < 0) {
		batch_free(batch);
		return r;
	}
	sd_bus_slot_set_destroy_callback(slot, batch_free);
	return sd_bus_slot_set_floating(slot, true);
}

static void touch(struct provider *p, int r)
{
	if (r < 0)
		log_error("cannot send to the daemon: %s", strerror(-r));
	bus_link_touch(p->link);
}

void provider_announce(struct provider *p, const struct provider_domain *domains, size_t n)
{
	int r = 0;

	for (size_t i = 0; p->ready && r >= 0 && i < n; i += BATCH)
		r = announce(p, domains + i, n - i < BATCH ? n - i : BATCH);
	touch(p, r);
}

static int on_withdrawn(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);

	if (error)
		log_warning("the daemon does not take back what was announced: %s", error->message);
	return 1;
}

static int withdraw(struct provider *p, const char *const *uuids, size_t n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r = sd_bus_message_new_method_call(p->sd, &m, SERVICE, PATH, MANAGER, "Withdraw");

	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "s");
	for (size_t i = 0; i < n && r >= 0; i++)
		r = sd_bus_message_append(m, "s", uuids[i]);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? r : sd_bus_call_async(p->sd, NULL, m, on_withdrawn, p, UINT64_MAX);
}

void provider_withdraw(struct provider *p, const char *const *uuids, size_t n)
{
	int r = 0;

	for (size_t i = 0; p->ready && r >= 0 && i < n; i += BATCH)
		r = withdraw(p, uuids + i, n - i < BATCH ? n - i : BATCH);
	touch(p, r);
}

static int read_ours(sd_bus_message *m, char ***ret, size_t *ret_n)
{
	const char *uuid, *name, *provider;
	int r = sd_bus_message_enter_container(m, 'a', "(sss)");

	while (r >= 0 && (r = sd_bus_message_read(m, "(sss)", &uuid, &name, &provider)) > 0) {
		char **larger;

		if (strcmp(provider, OUR_NAME) != 0)
			continue;
		larger = reallocarray(*ret, *ret_n + 1, sizeof(char *));
		if (!larger)
			return -ENOMEM;
		*ret = larger;
		larger[*ret_n] = strdup(uuid);
		if (!larger[(*ret_n)++])
			return -ENOMEM;
	}
	return r;
}

static int on_reviewed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct provider *p = userdata;
	char **uuids = NULL;
	size_t n = 0;
	int r = error ? -sd_bus_error_get_errno(error) : read_ours(m, &uuids, &n);

	if (r < 0)
		log_warning("cannot find out which domains the daemon still knows: %s", strerror(-r));
	else
		p->ops->reviewed(uuids, n, p->userdata);
	for (size_t i = 0; i < n; i++)
		free(uuids[i]);
	free(uuids);
	return 1;
}

void provider_review(struct provider *p)
{
	if (p->ready)
		touch(p, sd_bus_call_method_async(p->sd, NULL, SERVICE, PATH, MANAGER, "ListAnnouncements", on_reviewed,
						  p, ""));
}

static int on_counted(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);

	/* one that has never started is told by its announcement */
	if (error && strcmp(error->name, SERVICE ".Error.NoSuchVm") != 0)
		log_warning("the count of a domain's metadata does not take effect: %s", error->message);
	return 1;
}

void provider_set_count(struct provider *p, const char *uuid, uint32_t count)
{
	if (p->ready)
		touch(p, sd_bus_call_method_async(p->sd, NULL, SERVICE, PATH, MANAGER, "SetVcpuCount", on_counted, p,
						  "su", uuid, count));
}

/* ---- life ---- */

bool provider_is_ready(const struct provider *p)
{
	return p && p->ready;
}

int provider_new(struct provider **ret, struct loop *loop, const char *bus, const struct provider_ops *ops,
		 void *userdata, char **ret_error)
{
	struct provider *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	*p = (struct provider){.loop = loop, .ops = ops, .userdata = userdata, .backoff = BACKOFF_FIRST};
	r = loop_timer_new(&p->retry, loop, on_retry, p);
	if (r >= 0)
		r = bus_link_new(&p->link, loop, bus, NULL, &link_ops, p, ret_error);
	if (r < 0) {
		provider_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

struct provider *provider_free(struct provider *p)
{
	if (!p)
		return NULL;
	bus_link_free(p->link);
	loop_timer_free(p->retry);
	free(p);
	return NULL;
}
