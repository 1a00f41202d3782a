/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_AUTHORISE_H
#define CPUPOLICYD_BUS_AUTHORISE_H

/*
 * Who may change something, and the only place that decides it: root and the user that the daemon runs as may do
 * everything; of anybody else polkit is asked, on the same bus. Reading is open and does not come here.
 */

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "daemon/host/host.h"

/* systemd/org.cpupolicy1.policy describes each of them to polkit. */
enum bus_action {
	BUS_ACTION_ADMINISTER, /* the host: for whoever forgets to say which */
	BUS_ACTION_RESIZE,
	BUS_ACTION_ASSIGN,
	BUS_ACTION_RELOAD,
	BUS_ACTION_OPEN_VMM,
	BUS_ACTION_PROVIDE,
};

/* Who is asked for whom; owns nothing but what is under way. */
struct bus_authority;

int bus_authority_new(struct bus_authority **ret, struct loop *loop, struct host *host);
/* Every authorisation of it has been freed. */
struct bus_authority *bus_authority_free(struct bus_authority *authority);

/* What is to be permitted. Texts are copied. */
struct bus_authorise_request {
	enum bus_action action;
	const char *vm;   /* name or UUID of the VM it is about; NULL: it is about none */
	const char *name; /* of a VM that may not be on record yet; NULL */
	uid_t uid;        /* the same: of its VMM; (uid_t)-1: the caller's */
};

/* `error` is NULL for a caller that may; its message is for the caller. */
typedef void (*bus_authorise_fn)(uid_t uid, const sd_bus_error *error, void *userdata);

struct bus_authorisation;

/* Asks without waiting: `fn` runs once from the loop, unless the authorisation is freed before that. It may free it. A
 * VM that was authorised is the same one, with the same class and tenant, when `fn` runs. */
int bus_authorise(struct bus_authorisation **ret, struct bus_authority *authority,
		  const struct bus_authorise_request *request, sd_bus_message *call, bus_authorise_fn fn,
		  void *userdata);
struct bus_authorisation *bus_authorisation_free(struct bus_authorisation *a);

#endif
