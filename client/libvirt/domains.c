/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/domains.h"

#include <stdlib.h>
#include <string.h>

/* UUIDs are made by administrators and their tools, which gain nothing by filling a bucket. */
static struct domain_list *bucket(struct domains *all, const char *uuid)
{
	unsigned hash = 5381;

	for (; *uuid; uuid++)
		hash = hash * 33 + (unsigned char)*uuid;
	return &all->buckets[hash % DOMAINS_BUCKETS];
}

struct domain *domains_find(struct domains *all, const char *uuid)
{
	struct domain *d;

	LIST_FOREACH(d, bucket(all, uuid), entry)
		if (strcmp(d->uuid, uuid) == 0)
			return d;
	return NULL;
}

struct domain *domains_get(struct domains *all, const char *uuid)
{
	struct domain *d = domains_find(all, uuid);

	if (d)
		return d;
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	memcpy(d->uuid, uuid, strnlen(uuid, sizeof(d->uuid) - 1));
	LIST_INSERT_HEAD(bucket(all, uuid), d, entry);
	all->n++;
	return d;
}

void domains_remove(struct domains *all, struct domain *d)
{
	LIST_REMOVE(d, entry);
	all->n--;
	surrogate_free(d->surrogate);
	domain_facts_clear(&d->facts);
	free(d);
}

void domains_each(struct domains *all, void (*fn)(struct domain *d, void *userdata), void *userdata)
{
	for (size_t i = 0; i < DOMAINS_BUCKETS; i++) {
		struct domain *d = LIST_FIRST(&all->buckets[i]), *next;

		for (; d; d = next) {
			next = LIST_NEXT(d, entry);
			fn(d, userdata);
		}
	}
}
