/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * An authorisation asks the bus who the caller is, and then, unless it is root or the daemon's own user, polkit whether
 * that caller may. Both answers come through the loop. sd_bus_query_sender_creds() and the like would block it, and with
 * it verdicts, on the bus.
 *
 * What polkit is told of a VM (its UUID, tenant and class) comes from the record and never from the caller. If it has
 * changed by the time of the answer, polkit is asked again: nobody is permitted one VM and gets another.
 */

#include "daemon/bus/bus_authorise.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/peerlog.h"
#include "daemon/base/util.h"

#define POLKIT           "org.freedesktop.PolicyKit1"
#define POLKIT_PATH      "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_AUTHORITY "org.freedesktop.PolicyKit1.Authority"
#define POLKIT_INTERACT  1u

/* Somebody types a password. Without, sd-bus' own bound of 25 s holds. */
#define INTERACTIVE_USEC (300 * UINT64_C(1000000))
/* Those that wait for polkit, which waits for people: one user's must leave room for others', and all for root's. */
#define WAITING_MAX     512u
#define WAITING_PER_UID 32u
#define QUESTIONS_MAX   4u

/* What polkit is told of a VM. */
struct details {
	char *vm; /* NULL: it is about none */
	char *uuid;
	char *tenant;
	char *class;
};

struct bus_authorisation {
	LIST_ENTRY(bus_authorisation) entry; /* while polkit is asked */
	struct bus_authority *authority;
	sd_bus_message *call;
	sd_bus_slot *slot;
	sd_bus_slot *gone; /* tells when the caller leaves the bus */
	bus_authorise_fn fn;
	void *userdata;
	enum bus_action action;
	char *vm;
	char *name;
	uid_t vmm_uid;
	struct details details;
	char cancellation[32];
	unsigned questions;
	uid_t uid;
	bool waiting;
};

struct bus_authority {
	LIST_HEAD(, bus_authorisation) waiting;
	unsigned n_waiting;
	uint64_t questions; /* asked so far: names them */
	struct loop *loop;
	struct host *host;
	struct peerlog peerlog;
};

static const char *action_name(enum bus_action action)
{
	static const char *const names[] = {
		[BUS_ACTION_ADMINISTER] = "org.cpupolicy1.administer", [BUS_ACTION_RESIZE] = "org.cpupolicy1.resize",
		[BUS_ACTION_ASSIGN] = "org.cpupolicy1.assign",         [BUS_ACTION_RELOAD] = "org.cpupolicy1.reload",
		[BUS_ACTION_OPEN_VMM] = "org.cpupolicy1.open-vmm",     [BUS_ACTION_PROVIDE] = "org.cpupolicy1.provide",
	};

	return names[action];
}

/* ---- the answer ---- */

static void permit(struct bus_authorisation *a)
{
	a->fn(a->uid, NULL, a->userdata);
}

/* As people call it. */
static const char *vm_name(const struct bus_authorisation *a)
{
	return a->details.vm && *a->details.vm ? a->details.vm : a->vm ? a->vm : "";
}

/* Nothing of it happens: that, and no more, is in the log. */
static void refuse(struct bus_authorisation *a, const sd_bus_error *error)
{
	char uid[16];

	if (peerlog_open(&a->authority->peerlog, a->uid, loop_now(a->authority->loop))) {
		snprintf(uid, sizeof(uid), "%" PRIu32, (uint32_t)a->uid);
		log_fields(LOG_NOTICE,
			   (const struct log_field[]){
				   {"UID", uid},
				   {"ACTION", action_name(a->action)},
				   {"VM_UUID", a->details.uuid},
				   {NULL, NULL},
			   },
			   "refused %s%s%s to uid %" PRIu32 ": %s", sd_bus_message_get_member(a->call),
			   a->vm ? " of VM " : "", vm_name(a), (uint32_t)a->uid, error->message);
	}
	a->fn(a->uid, error, a->userdata);
}

static void refuse_because(struct bus_authorisation *a, const char *name, const char *why)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	uid_t own = geteuid();
	char self[48] = "";

	if (own != 0)
		snprintf(self, sizeof(self), " and the daemon's own user (uid %" PRIu32 ")", (uint32_t)own);
	sd_bus_error_setf(&error, name,
			  "the polkit action %s is needed%s%s: %s; root%s may without. The caller has uid %" PRIu32,
			  action_name(a->action), a->vm ? " for VM " : "", vm_name(a), why, self, (uint32_t)a->uid);
	refuse(a, &error);
}

/* ---- what is asked for ---- */

static void details_clear(struct details *d)
{
	free(d->vm);
	free(d->uuid);
	free(d->tenant);
	free(d->class);
	*d = (struct details){0};
}

static int details_look(const struct bus_authorisation *a, struct details *ret)
{
	_cleanup_(details_clear) struct details d = {0};
	struct host_identity identity;

	if (!a->vm) {
		*ret = d;
		return 0;
	}
	host_identify(a->authority->host, a->vm, a->name, a->vmm_uid != (uid_t)-1 ? a->vmm_uid : a->uid, &identity);
	d.vm = strdup(identity.name);
	d.uuid = strdup(identity.uuid);
	d.tenant = strdup(identity.tenant);
	d.class = strdup(identity.class);
	if (!d.vm || !d.uuid || !d.tenant || !d.class)
		return -ENOMEM;
	*ret = d;
	d = (struct details){0};
	return 0;
}

static bool details_equal(const struct details *a, const struct details *b)
{
	return !a->vm || (strcmp(a->vm, b->vm) == 0 && strcmp(a->uuid, b->uuid) == 0 &&
			  strcmp(a->tenant, b->tenant) == 0 && strcmp(a->class, b->class) == 0);
}

/* ---- polkit ---- */

static int ask(struct bus_authorisation *a);

static void on_permitted(struct bus_authorisation *a)
{
	_cleanup_(details_clear) struct details now = {0};
	int r;

	r = details_look(a, &now);
	if (r >= 0 && details_equal(&a->details, &now)) {
		permit(a);
		return;
	}
	if (r >= 0) {
		details_clear(&a->details);
		a->details = now;
		now = (struct details){0};
		r = a->questions < QUESTIONS_MAX ? ask(a) : -EBUSY;
	}
	if (r == -EBUSY)
		refuse_because(a, SD_BUS_ERROR_ACCESS_DENIED,
			       "the VM's class or tenant changes all the time: try again");
	else if (r < 0)
		refuse_because(a, SD_BUS_ERROR_NO_MEMORY, strerror(-r));
}

static bool is_absent(const sd_bus_error *error)
{
	return sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
	       sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER) ||
	       strncmp(error->name, "org.freedesktop.DBus.Error.Spawn.", 33) == 0;
}

static void on_polkit_failed(struct bus_authorisation *a, const sd_bus_error *error)
{
	char why[512];

	if (is_absent(error)) {
		refuse_because(a, SD_BUS_ERROR_ACCESS_DENIED, "there is no polkit on this bus");
		return;
	}
	snprintf(why, sizeof(why), "polkit does not say: %s", error->message ? error->message : error->name);
	refuse_because(a, SD_BUS_ERROR_ACCESS_DENIED, why);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct bus_authorisation *a = userdata;
	int authorised, challenge, r;

	a->slot = sd_bus_slot_unref(a->slot);
	if (error) {
		on_polkit_failed(a, error);
		return 1;
	}
	r = sd_bus_message_enter_container(m, 'r', "bba{ss}");
	if (r >= 0)
		r = sd_bus_message_read(m, "bb", &authorised, &challenge);
	if (r < 0)
		refuse_because(a, SD_BUS_ERROR_ACCESS_DENIED, "polkit's answer is not understood");
	else if (authorised)
		on_permitted(a);
	else if (challenge)
		refuse_because(a, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
			       "it asks for a password, and cannot here");
	else
		refuse_because(a, SD_BUS_ERROR_ACCESS_DENIED, "it says no");
	return 1;
}

static int append_detail(sd_bus_message *m, const char *key, const char *value)
{
	return sd_bus_message_append(m, "{ss}", key, value);
}

static int append_details(sd_bus_message *m, const struct details *d)
{
	int r;

	r = sd_bus_message_open_container(m, 'a', "{ss}");
	if (r >= 0 && d->vm) {
		r = append_detail(m, "vm", d->vm);
		if (r >= 0)
			r = append_detail(m, "uuid", d->uuid);
		if (r >= 0)
			r = append_detail(m, "tenant", d->tenant);
		if (r >= 0)
			r = append_detail(m, "class", d->class);
	}
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int ask(struct bus_authorisation *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	bool interactive = sd_bus_message_get_allow_interactive_authorization(a->call) > 0;
	int r;

	a->questions++;
	snprintf(a->cancellation, sizeof(a->cancellation), "cpupolicyd-%" PRIu64, ++a->authority->questions);
	r = sd_bus_message_new_method_call(sd_bus_message_get_bus(a->call), &m, POLKIT, POLKIT_PATH, POLKIT_AUTHORITY,
					   "CheckAuthorization");
	if (r >= 0)
		r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
					  sd_bus_message_get_sender(a->call), action_name(a->action));
	if (r >= 0)
		r = append_details(m, &a->details);
	if (r >= 0)
		r = sd_bus_message_append(m, "us", interactive ? POLKIT_INTERACT : 0, a->cancellation);
	if (r >= 0)
		r = sd_bus_call_async(sd_bus_message_get_bus(a->call), &a->slot, m, on_answer, a,
				      interactive ? INTERACTIVE_USEC : 0);
	return r;
}

/* Takes the dialog off somebody's screen. Nobody waits for the answer. */
static void cancel(struct bus_authorisation *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	sd_bus *bus = sd_bus_message_get_bus(a->call);

	if (sd_bus_message_new_method_call(bus, &m, POLKIT, POLKIT_PATH, POLKIT_AUTHORITY,
					   "CancelCheckAuthorization") >= 0 &&
	    sd_bus_message_append(m, "s", a->cancellation) >= 0 && sd_bus_message_set_expect_reply(m, false) >= 0 &&
	    sd_bus_message_set_auto_start(m, false) >= 0)
		sd_bus_send(bus, m, NULL);
}

static int on_gone(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const char *name, *was, *is;
	struct bus_authorisation *a = userdata;

	if (sd_bus_message_read(m, "sss", &name, &was, &is) < 0 || *is)
		return 0;
	cancel(a);
	refuse_because(a, SD_BUS_ERROR_ACCESS_DENIED, "the caller has left the bus");
	return 0;
}

static int watch_caller(struct bus_authorisation *a)
{
	char match[320];

	snprintf(match, sizeof(match),
		 "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
		 "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'",
		 sd_bus_message_get_sender(a->call));
	return sd_bus_add_match_async(sd_bus_message_get_bus(a->call), &a->gone, match, on_gone, NULL, a);
}

static bool is_crowded(const struct bus_authority *authority, uid_t uid)
{
	const struct bus_authorisation *a;
	unsigned n = 0;

	LIST_FOREACH(a, &authority->waiting, entry)
		n += a->uid == uid;
	return n >= WAITING_PER_UID || authority->n_waiting >= WAITING_MAX;
}

static int consult(struct bus_authorisation *a)
{
	int r;

	r = details_look(a, &a->details);
	if (r >= 0)
		r = watch_caller(a);
	if (r >= 0)
		r = ask(a);
	if (r < 0)
		return r;
	LIST_INSERT_HEAD(&a->authority->waiting, a, entry);
	a->authority->n_waiting++;
	a->waiting = true;
	return 0;
}

/* ---- who it is ---- */

static int on_uid(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_authorisation *a = userdata;
	uint32_t uid;
	int r;

	a->slot = sd_bus_slot_unref(a->slot);
	if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "u", &uid) < 0) {
		refuse_because(a, SD_BUS_ERROR_ACCESS_DENIED, "the bus does not say which user the caller is");
		return 1;
	}
	a->uid = uid;
	if (uid == 0 || uid == geteuid()) {
		permit(a);
		return 1;
	}
	if (is_crowded(a->authority, uid)) {
		refuse_because(a, SD_BUS_ERROR_LIMITS_EXCEEDED, "too many wait for polkit's answers already");
		return 1;
	}
	r = consult(a);
	if (r < 0)
		refuse_because(a, SD_BUS_ERROR_FAILED, strerror(-r));
	return 1;
}

/* ---- life ---- */

static int copy_request(struct bus_authorisation *a, const struct bus_authorise_request *request)
{
	a->action = request->action;
	a->vmm_uid = request->uid;
	a->vm = request->vm ? strdup(request->vm) : NULL;
	a->name = request->name ? strdup(request->name) : NULL;
	return (request->vm && !a->vm) || (request->name && !a->name) ? -ENOMEM : 0;
}

int bus_authorise(struct bus_authorisation **ret, struct bus_authority *authority,
		  const struct bus_authorise_request *request, sd_bus_message *call, bus_authorise_fn fn,
		  void *userdata)
{
	const char *sender = sd_bus_message_get_sender(call);
	struct bus_authorisation *a;
	int r;

	if (!sender)
		return -EACCES;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->authority = authority;
	a->fn = fn;
	a->userdata = userdata;
	a->uid = (uid_t)-1;
	a->call = sd_bus_message_ref(call);
	r = copy_request(a, request);
	if (r >= 0)
		r = sd_bus_call_method_async(sd_bus_message_get_bus(call), &a->slot, "org.freedesktop.DBus",
					     "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixUser",
					     on_uid, a, "s", sender);
	if (r < 0) {
		bus_authorisation_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct bus_authorisation *bus_authorisation_free(struct bus_authorisation *a)
{
	if (!a)
		return NULL;
	if (a->waiting) {
		LIST_REMOVE(a, entry);
		a->authority->n_waiting--;
	}
	sd_bus_slot_unref(a->slot);
	sd_bus_slot_unref(a->gone);
	sd_bus_message_unref(a->call);
	details_clear(&a->details);
	free(a->vm);
	free(a->name);
	free(a);
	return NULL;
}

int bus_authority_new(struct bus_authority **ret, struct loop *loop, struct host *host)
{
	struct bus_authority *authority = calloc(1, sizeof(*authority));

	if (!authority)
		return -ENOMEM;
	LIST_INIT(&authority->waiting);
	authority->loop = loop;
	authority->host = host;
	*ret = authority;
	return 0;
}

struct bus_authority *bus_authority_free(struct bus_authority *authority)
{
	free(authority);
	return NULL;
}
