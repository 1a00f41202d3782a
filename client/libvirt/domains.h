/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_DOMAINS_H
#define CPUPOLICY_LIBVIRT_DOMAINS_H

/* The domains that the bridge knows, by UUID. */

#include <stdbool.h>
#include <sys/queue.h>

#include "client/libvirt/domain_facts.h"
#include "client/libvirt/surrogate.h"

#define DOMAINS_BUCKETS 1024

struct domain {
	LIST_ENTRY(domain) entry;
	char uuid[UUID_TEXT_SIZE];
	bool known;                  /* facts are there */
	bool looking, look_again;    /* a look is under way; something has happened since */
	bool listed;                 /* seen in the list that is gone through */
	bool announced;              /* the daemon has been told of it as it is */
	bool refused;                /* its metadata is wrong, and that has been said */
	bool restored;               /* it was, and has not been seen to run since */
	int stopped;                 /* why it stopped last: a virDomainEventStoppedDetailType */
	struct domain_facts facts;   /* the last ones; what its metadata said rightly is kept */
	struct surrogate *surrogate; /* NULL: it does not run, or speaks for itself */
};

struct domains {
	LIST_HEAD(domain_list, domain) buckets[DOMAINS_BUCKETS];
	size_t n;
};

struct domain *domains_find(struct domains *all, const char *uuid);
/* What is there, or a new one. NULL: out of memory. */
struct domain *domains_get(struct domains *all, const char *uuid);
void domains_remove(struct domains *all, struct domain *d);

/* For each, also if `fn` removes it. */
void domains_each(struct domains *all, void (*fn)(struct domain *d, void *userdata), void *userdata);

#endif
