/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/bus/bus_authorise.h"
#include "daemon/bus/bus_error.h"
#include "daemon/bus/bus_job.h"
#include "daemon/base/log.h"
#include "daemon/base/util.h"

/* Over all clients; what waits is our memory. */
#define CALLS_MAX 1024

struct bus_call {
	TAILQ_ENTRY(bus_call) entry;
	struct bus_calls *calls;
	sd_bus_message *message;                 /* NULL: the answer goes nowhere */
	struct bus_authorisation *authorisation; /* NULL: the host has it */
	bus_call_fn perform;
	struct bus_request request;
	char vm[];
};

struct bus_calls {
	TAILQ_HEAD(, bus_call) list;
	unsigned n;
	struct host *host;
	struct bus_authority *authority;
	struct bus_link *link;
};

/* ---- life of a call ---- */

static void call_free(struct bus_call *call)
{
	TAILQ_REMOVE(&call->calls->list, call, entry);
	call->calls->n--;
	bus_authorisation_free(call->authorisation);
	sd_bus_message_unref(call->message);
	free(call);
}

static void replied(struct bus_call *call, int r)
{
	if (r < 0 && r != -ENOTCONN && r != -ECONNRESET)
		log_warning("D-Bus: cannot reply: %s", strerror(-r));
	bus_link_touch(call->calls->link);
	call_free(call);
}

static void on_host(enum host_error error, const char *message, uint64_t job, void *userdata)
{
	struct bus_call *call = userdata;
	char path[BUS_JOB_PATH_SIZE];
	int r;

	if (!call->message) {
		call_free(call);
		return;
	}
	if (error != HOST_OK)
		r = sd_bus_reply_method_errorf(call->message, bus_error_name(error), "%s", message);
	else if (job != 0)
		r = sd_bus_reply_method_return(call->message, "o", bus_job_path(job, path));
	else
		r = sd_bus_reply_method_return(call->message, NULL);
	replied(call, r);
}

static void on_authorised(uid_t uid, const sd_bus_error *error, void *userdata)
{
	struct bus_call *call = userdata;

	call->authorisation = bus_authorisation_free(call->authorisation);
	if (error)
		replied(call, sd_bus_reply_method_error(call->message, error));
	else
		call->perform(call->calls->host, &call->request, uid, on_host, call);
}

int bus_call(struct bus_calls *calls, sd_bus_message *m, const struct bus_request *request, bus_call_fn perform,
	     sd_bus_error *ret_error)
{
	size_t length = request->vm ? strlen(request->vm) : 0;
	struct bus_call *call;
	int r;

	if (length >= CPUPOLICY_NAME_SIZE)
		return sd_bus_error_set(ret_error, BUS_ERROR("NoSuchVm"), "there is no VM with a name of that length");
	if (calls->n >= CALLS_MAX)
		return sd_bus_error_set(ret_error, SD_BUS_ERROR_LIMITS_EXCEEDED,
					"too many requests wait for their answers already: try again");
	call = calloc(1, sizeof(*call) + length + 1);
	if (!call)
		return -ENOMEM;
	call->request = *request;
	call->perform = perform;
	if (request->vm) {
		memcpy(call->vm, request->vm, length + 1);
		call->request.vm = call->vm;
	}
	r = bus_authorise(&call->authorisation, calls->authority,
			  &(struct bus_authorise_request){
				  .action = request->action,
				  .vm = request->vm,
				  .uid = (uid_t)-1,
			  },
			  m, on_authorised, call);
	if (r < 0) {
		free(call);
		return r;
	}
	call->message = call->request.message = sd_bus_message_ref(m);
	call->calls = calls;
	TAILQ_INSERT_TAIL(&calls->list, call, entry);
	calls->n++;
	return 1;
}

void bus_call_resize_millis(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			    void *userdata)
{
	host_resize_millis(host, request->vm, request->count, uid, done, userdata);
}

void bus_call_resize(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done, void *userdata)
{
	host_resize(host, request->vm, request->count, uid, done, userdata);
}

/* ---- all of them ---- */

int bus_calls_new(struct bus_calls **ret, struct host *host, struct bus_authority *authority)
{
	struct bus_calls *calls = calloc(1, sizeof(*calls));

	if (!calls)
		return -ENOMEM;
	TAILQ_INIT(&calls->list);
	calls->host = host;
	calls->authority = authority;
	*ret = calls;
	return 0;
}

void bus_calls_set_link(struct bus_calls *calls, struct bus_link *link)
{
	calls->link = link;
}

void bus_calls_lost(struct bus_calls *calls)
{
	struct bus_call *call = TAILQ_FIRST(&calls->list);

	while (call) {
		struct bus_call *next = TAILQ_NEXT(call, entry);

		/* the host has what is authorised, and will come back with it */
		if (call->authorisation)
			call_free(call);
		else
			call->message = sd_bus_message_unref(call->message);
		call = next;
	}
}

struct bus_calls *bus_calls_free(struct bus_calls *calls)
{
	if (!calls)
		return NULL;
	while (!TAILQ_EMPTY(&calls->list))
		call_free(TAILQ_FIRST(&calls->list));
	free(calls);
	return NULL;
}
