/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"
#include "daemon/bus/bus_error.h"
#include "daemon/core/uuid.h"
#include "proto/text.h"

/* Over all clients; what waits is our memory. */
#define OPENS_MAX 256u

struct open_call {
	LIST_ENTRY(open_call) entry;
	struct bus_opens *opens;
	sd_bus_message *message;
	struct bus_authorisation *authorisation;
	sd_bus_slot *slot;
	struct host_voucher voucher;
};

struct bus_opens {
	LIST_HEAD(, open_call) list;
	unsigned n;
	struct host *host;
	struct bus_authority *authority;
	struct bus_link *link;
	bus_open_fn open;
	void *userdata;
};

static void call_free(struct open_call *call)
{
	LIST_REMOVE(call, entry);
	call->opens->n--;
	bus_authorisation_free(call->authorisation);
	sd_bus_slot_unref(call->slot);
	sd_bus_message_unref(call->message);
	free(call);
}

static void replied(struct open_call *call, int r)
{
	if (r < 0 && r != -ENOTCONN && r != -ECONNRESET)
		log_warning("D-Bus: cannot reply: %s", strerror(-r));
	bus_link_touch(call->opens->link);
	call_free(call);
}

/* ---- opening ---- */

static void refuse(struct open_call *call, int error)
{
	if (error == -EUSERS)
		replied(call,
			sd_bus_reply_method_errorf(call->message, SD_BUS_ERROR_LIMITS_EXCEEDED,
						   "too many connections that you opened have not registered a VM"));
	else
		replied(call, sd_bus_reply_method_errorf(call->message, SD_BUS_ERROR_FAILED,
							 "a connection cannot be opened: %s", strerror(-error)));
}

/* Who is given no name to bind is bound to the one on record: the policy's rules go by it. */
static void bind_name(struct open_call *call)
{
	char uuid[UUID_TEXT_SIZE];
	struct host_vm *vm;

	if (*call->voucher.name)
		return;
	uuid_format(uuid, call->voucher.uuid);
	vm = host_find(call->opens->host, uuid);
	if (vm)
		snprintf(call->voucher.name, sizeof(call->voucher.name), "%s", host_vm_name(vm));
}

static void open_now(struct open_call *call)
{
	_cleanup_close_ int fd = -1;
	int r;

	bind_name(call);
	r = call->opens->open(&call->voucher, &fd, call->opens->userdata);
	if (r < 0)
		refuse(call, r);
	else
		replied(call, sd_bus_reply_method_return(call->message, "h", fd));
}

static int on_pid(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct open_call *call = userdata;
	uint32_t pid;

	if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "u", &pid) >= 0)
		call->voucher.by_pid = (pid_t)pid;
	open_now(call);
	return 1;
}

static void on_authorised(uid_t uid, const sd_bus_error *error, void *userdata)
{
	struct open_call *call = userdata;

	call->authorisation = bus_authorisation_free(call->authorisation);
	if (error) {
		replied(call, sd_bus_reply_method_error(call->message, error));
		return;
	}
	call->voucher.by_uid = uid;
	if (call->voucher.uid == (uid_t)-1)
		call->voucher.uid = uid;
	/* for the record alone */
	if (sd_bus_call_method_async(sd_bus_message_get_bus(call->message), &call->slot, "org.freedesktop.DBus",
				     "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixProcessID",
				     on_pid, call, "s", sd_bus_message_get_sender(call->message)) < 0)
		open_now(call);
}

/* ---- what is expected ---- */

static int invalid(sd_bus_error *ret_error, const char *what, const char *why)
{
	return sd_bus_error_setf(ret_error, SD_BUS_ERROR_INVALID_ARGS, "%s: %s", what, why);
}

static int read_name(sd_bus_message *m, struct host_voucher *voucher, sd_bus_error *ret_error)
{
	uint8_t ignored[CPUPOLICY_UUID_SIZE];
	const char *name, *why;
	int r;

	r = sd_bus_message_read(m, "v", "s", &name);
	if (r < 0)
		return invalid(ret_error, "name", "expected a string");
	if (strlen(name) >= sizeof(voucher->name))
		return invalid(ret_error, "name", "expected at most 255 bytes");
	if (cpupolicy_text_check_name(name, &why) < 0)
		return invalid(ret_error, "name", why);
	if (uuid_parse(ignored, name) == 0)
		return invalid(ret_error, "name", "a VM's name must not look like a UUID");
	snprintf(voucher->name, sizeof(voucher->name), "%s", name);
	return 0;
}

static int read_uid(sd_bus_message *m, struct host_voucher *voucher, sd_bus_error *ret_error)
{
	uint32_t uid;
	int r;

	r = sd_bus_message_read(m, "v", "u", &uid);
	if (r < 0)
		return invalid(ret_error, "uid", "expected a number (u)");
	if (uid == UINT32_MAX)
		return invalid(ret_error, "uid", "expected the uid of a user");
	voucher->uid = uid;
	return 0;
}

static int read_expected(sd_bus_message *m, struct host_voucher *voucher, sd_bus_error *ret_error)
{
	int r;

	r = sd_bus_message_enter_container(m, 'a', "{sv}");
	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		const char *key;

		r = sd_bus_message_read(m, "s", &key);
		if (r < 0)
			return r;
		if (strcmp(key, "name") == 0)
			r = read_name(m, voucher, ret_error);
		else if (strcmp(key, "uid") == 0)
			r = read_uid(m, voucher, ret_error);
		else
			return sd_bus_error_setf(ret_error, SD_BUS_ERROR_INVALID_ARGS,
						 "\"%.64s\" cannot be expected; name and uid can", key);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_voucher(sd_bus_message *m, struct host_voucher *ret, sd_bus_error *ret_error)
{
	struct host_voucher voucher = {.uid = (uid_t)-1, .by_uid = (uid_t)-1};
	const char *uuid;
	int r;

	r = sd_bus_message_read(m, "s", &uuid);
	if (r < 0)
		return r;
	if (uuid_parse(voucher.uuid, uuid) < 0 || uuid_is_nil(voucher.uuid))
		return sd_bus_error_setf(ret_error, SD_BUS_ERROR_INVALID_ARGS, "\"%.64s\" is not the UUID of a VM",
					 uuid);
	r = read_expected(m, &voucher, ret_error);
	if (r < 0)
		return r;
	*ret = voucher;
	return 0;
}

int bus_open(struct bus_opens *opens, sd_bus_message *m, sd_bus_error *ret_error)
{
	struct open_call *call;
	char uuid[UUID_TEXT_SIZE];
	int r;

	if (opens->n >= OPENS_MAX)
		return sd_bus_error_set(ret_error, SD_BUS_ERROR_LIMITS_EXCEEDED,
					"too many wait for a connection already: try again");
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->opens = opens;
	LIST_INSERT_HEAD(&opens->list, call, entry);
	opens->n++;
	r = read_voucher(m, &call->voucher, ret_error);
	if (r >= 0) {
		uuid_format(uuid, call->voucher.uuid);
		r = bus_authorise(&call->authorisation, opens->authority,
				  &(struct bus_authorise_request){
					  .action = BUS_ACTION_OPEN_VMM,
					  .vm = uuid,
					  .name = *call->voucher.name ? call->voucher.name : NULL,
					  .uid = call->voucher.uid,
				  },
				  m, on_authorised, call);
	}
	if (r < 0) {
		call_free(call);
		return r;
	}
	call->message = sd_bus_message_ref(m);
	return 1;
}

/* ---- all of them ---- */

int bus_opens_new(struct bus_opens **ret, struct host *host, struct bus_authority *authority, bus_open_fn open,
		  void *userdata)
{
	struct bus_opens *opens = calloc(1, sizeof(*opens));

	if (!opens)
		return -ENOMEM;
	LIST_INIT(&opens->list);
	opens->host = host;
	opens->authority = authority;
	opens->open = open;
	opens->userdata = userdata;
	*ret = opens;
	return 0;
}

void bus_opens_set_link(struct bus_opens *opens, struct bus_link *link)
{
	opens->link = link;
}

void bus_opens_lost(struct bus_opens *opens)
{
	while (!LIST_EMPTY(&opens->list))
		call_free(LIST_FIRST(&opens->list));
}

struct bus_opens *bus_opens_free(struct bus_opens *opens)
{
	if (!opens)
		return NULL;
	bus_opens_lost(opens);
	free(opens);
	return NULL;
}
