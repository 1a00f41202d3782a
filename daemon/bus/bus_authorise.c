/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_authorise.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"

struct bus_authorisation {
	sd_bus_slot *slot;
	bus_authorise_fn fn;
	void *userdata;
};

static void decide(struct bus_authorisation *a, uid_t uid)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	uid_t own = geteuid();

	if (uid == 0 || uid == own) {
		a->fn(uid, NULL, a->userdata);
		return;
	}
	if (own == 0)
		sd_bus_error_setf(&error, SD_BUS_ERROR_ACCESS_DENIED,
				  "this is for root alone; the caller has uid %" PRIu32, (uint32_t)uid);
	else
		sd_bus_error_setf(&error, SD_BUS_ERROR_ACCESS_DENIED,
				  "this is for root and for the daemon's own user (uid %" PRIu32
				  "); the caller has uid %" PRIu32,
				  (uint32_t)own, (uint32_t)uid);
	a->fn(uid, &error, a->userdata);
}

static int on_uid(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	struct bus_authorisation *a = userdata;
	uint32_t uid;

	if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "u", &uid) >= 0) {
		decide(a, uid);
		return 1;
	}
	sd_bus_error_set_const(&error, SD_BUS_ERROR_ACCESS_DENIED, "the bus does not say which user the caller is");
	a->fn((uid_t)-1, &error, a->userdata);
	return 1;
}

int bus_authorise(struct bus_authorisation **ret, sd_bus_message *call, bus_authorise_fn fn, void *userdata)
{
	const char *sender = sd_bus_message_get_sender(call);
	struct bus_authorisation *a;
	int r;

	if (!sender)
		return -EACCES;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->fn = fn;
	a->userdata = userdata;
	/* sd_bus_query_sender_creds() would block the loop, and with it verdicts, on the bus. */
	r = sd_bus_call_method_async(sd_bus_message_get_bus(call), &a->slot, "org.freedesktop.DBus",
				     "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixUser", on_uid,
				     a, "s", sender);
	if (r < 0) {
		bus_authorisation_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct bus_authorisation *bus_authorisation_free(struct bus_authorisation *a)
{
	if (a)
		sd_bus_slot_unref(a->slot);
	free(a);
	return NULL;
}
