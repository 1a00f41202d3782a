/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_CALL_H
#define CPUPOLICYD_BUS_CALL_H

/* Method calls that change something: from arrival through authorisation and the host's answer, which may be a disk
 * write away, to the reply. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "daemon/bus/bus_authorise.h"
#include "daemon/bus/bus_link.h"
#include "daemon/host/host.h"

struct bus_calls;

int bus_calls_new(struct bus_calls **ret, struct host *host, struct bus_authority *authority);
/* The loop has ended: the host answers nothing any more. */
struct bus_calls *bus_calls_free(struct bus_calls *calls);
void bus_calls_set_link(struct bus_calls *calls, struct bus_link *link);
/* The connection is about to be dropped: nobody can be answered. */
void bus_calls_lost(struct bus_calls *calls);

/* What a call asks for; each kind uses its part. */
struct bus_request {
	enum bus_action action; /* what the caller must be permitted */
	const char *vm;         /* name or UUID; copied */
	const char *text;       /* in the message */
	uint32_t count;
	bool on;
	void *context;           /* of the interface; outlives the connection */
	sd_bus_message *message; /* the call; set here */
};

/* Hands an authorised request over to the host; `done` runs once. */
typedef void (*bus_call_fn)(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			    void *userdata);
/* Returns what a method handler does. */
int bus_call(struct bus_calls *calls, sd_bus_message *m, const struct bus_request *request, bus_call_fn perform,
	     sd_bus_error *ret_error);

/* Those that two interfaces have. */
void bus_call_resize_millis(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			    void *userdata);
void bus_call_resize(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
		     void *userdata);

#endif
