/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Freeze and drain. They are durable: first on disk, then in force, then answered; one request after the other, so that
 * each is written over what the one before it has led to.
 */

#include <string.h>

#include "daemon/host/host_private.h"

static void apply(struct host *host, enum fleet_event_kind kind, bool on)
{
	host_fleet_apply(host, HOST_EVENT(.kind = kind, .on = on));
}

/* A new one, or NULL: there is none, and the next write may begin. */
static struct host_mode_request *take(struct host *host)
{
	struct host_mode_request *request = host->mode_requests;

	if (request)
		host->mode_requests = request->next;
	return request;
}

static bool is_on(const struct store_host *modes, const struct host_mode_request *request)
{
	return request->drain ? modes->drained : modes->frozen;
}

static struct store_host with(const struct store_host *modes, const struct host_mode_request *request)
{
	struct store_host next = *modes;

	if (request->drain) {
		next.drained = request->on;
		next.drained_uid = request->uid;
	} else {
		next.frozen = request->on;
		next.frozen_uid = request->uid;
	}
	return next;
}

static void log_change(const struct host_mode_request *request)
{
	char uid[16];

	snprintf(uid, sizeof(uid), "%u", (unsigned)request->uid);
	log_fields(LOG_NOTICE, (const struct log_field[]){{"UID", uid}, {NULL, NULL}}, "uid %s %s", uid,
		   request->drain ? request->on ? "drains the host" : "ends draining the host"
		   : request->on  ? "freezes the host"
				  : "thaws the host");
}

static void enforce(struct host *host, const struct host_mode_request *request)
{
	bool was = is_on(&host->modes, request);

	host->modes = with(&host->modes, request);
	if (was == request->on)
		return;
	log_change(request);
	apply(host, request->drain ? FLEET_DRAIN : FLEET_FREEZE, request->on);
	if (!request->drain && !request->on)
		host_policy_thawed(host);
	host_fleet_settle(host);
	host_notice_host(host);
}

static void write_next(struct host *host);

static void answer_first(struct host *host, enum host_error error, const char *why)
{
	struct host_mode_request *request = take(host);

	request->fn(error, why, 0, request->userdata);
	free(request);
	write_next(host);
}

static void on_written(int error, const char *why, void *userdata)
{
	struct host *host = userdata;

	if (error == 0) {
		host->counters.writes++;
		enforce(host, host->mode_requests);
		answer_first(host, HOST_OK, NULL);
	} else {
		host->counters.write_failures++;
		answer_first(host, HOST_STORAGE, why ? why : strerror(-error));
	}
}

static void write_next(struct host *host)
{
	struct store_host next;

	if (!host->mode_requests)
		return;
	next = with(&host->modes, host->mode_requests);
	if (store_put_host(host->store, &next, on_written, host) < 0)
		answer_first(host, HOST_NO_MEMORY, "out of memory");
}

static void ask(struct host *host, struct host_mode_request values)
{
	struct host_mode_request *request = malloc(sizeof(*request)), **end = &host->mode_requests;
	bool idle = !host->mode_requests;

	if (!request) {
		host_client_refuse(values.fn, values.userdata, HOST_NO_MEMORY, "out of memory");
		return;
	}
	*request = values;
	while (*end)
		end = &(*end)->next;
	*end = request;
	if (idle)
		write_next(host);
}

void host_freeze(struct host *host, bool on, uid_t uid, host_done_fn fn, void *userdata)
{
	ask(host, (struct host_mode_request){.on = on, .uid = uid, .fn = fn, .userdata = userdata});
}

void host_drain(struct host *host, bool on, uid_t uid, host_done_fn fn, void *userdata)
{
	ask(host, (struct host_mode_request){.drain = true, .on = on, .uid = uid, .fn = fn, .userdata = userdata});
}

/* There is no VM yet, and no recording: its header will say so. */
static void restore(struct host *host, enum fleet_event_kind kind)
{
	fleet_apply(&host->fleet, HOST_EVENT(.kind = kind, .now = host_now(host), .on = true));
}

int host_mode_load(struct host *host, char **ret_error)
{
	int r = store_load_host(host->store, &host->modes, ret_error);

	if (r < 0)
		return r;
	if (host->modes.drained) {
		restore(host, FLEET_DRAIN);
		log_fields(LOG_NOTICE, NULL, "the host is drained: no new VM is admitted");
	}
	if (host->modes.frozen) {
		restore(host, FLEET_FREEZE);
		log_fields(LOG_NOTICE, NULL, "the host is frozen: nothing changes");
	}
	return 0;
}

void host_mode_close(struct host *host)
{
	struct host_mode_request *request;

	while ((request = take(host)))
		free(request);
}
