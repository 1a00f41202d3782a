/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_PROVIDER_H
#define CPUPOLICY_LIBVIRT_PROVIDER_H

/*
 * The bridge's side of the daemon's API (docs/dbus.md): registers as a provider, announces domains, asks for counts, and
 * takes requests to hold CPU time. Whenever the daemon or the bus has come back, the provider is registered anew and
 * everything announced again.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/loop.h"

struct provider;

/* A domain, as the daemon is to know it. Strings are the caller's. */
struct provider_domain {
	const char *uuid, *name;
	bool has_uid;
	uint32_t uid;
	const char *label, *class, *tenant; /* NULL: not said */
	uint32_t desired;                   /* 0: not said */
	bool can_hold;
};

/* A request to hold a domain's CPU time, to be answered once. */
struct provider_quota;
void provider_answer(struct provider_quota *quota);
/* `name`: after "org.cpupolicy1.Error." */
void provider_refuse(struct provider_quota *quota, const char *name, const char *message);

struct provider_ops {
	/* The daemon takes announcements, and knows of none since: announce all. */
	void (*ready)(void *userdata);
	void (*lost)(void *userdata);
	/* By provider_review(): what it has been told of, by us or another life of us. */
	void (*reviewed)(char *const *uuids, size_t n, void *userdata);
	/* Of several domains that were announced together none was taken: one of them is wrong. */
	void (*refused)(char *const *uuids, size_t n, void *userdata);
	/* `millis` UINT32_MAX: not any more. */
	void (*set_quota)(const char *uuid, uint32_t millis, struct provider_quota *quota, void *userdata);
};

/* As bus_link_new(). */
int provider_new(struct provider **ret, struct loop *loop, const char *bus, const struct provider_ops *ops,
		 void *userdata, char **ret_error);
struct provider *provider_free(struct provider *p);
bool provider_is_ready(const struct provider *p);

/* Nothing is done, and nothing lost, while it is not ready. */
void provider_announce(struct provider *p, const struct provider_domain *domains, size_t n);
void provider_withdraw(struct provider *p, const char *const *uuids, size_t n);
/* Ends in `reviewed`. */
void provider_review(struct provider *p);
void provider_set_count(struct provider *p, const char *uuid, uint32_t count);

#endif
