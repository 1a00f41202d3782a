/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_LEDGER_H
#define CPUPOLICYD_LEDGER_H

/*
 * Who may have how many of the host's vCPUs: pure, deterministic, and linear in the number of VMs. It allocates memory in
 * ledger_reserve() only.
 *
 * Each VM has its guaranteed part, min(demand, guaranteed), whatever else is true. The rest of the capacity is lent as
 * burst: by priority, the highest first, and max-min fair within one: nobody there gets more than another one who still
 * wants more and has less, but for the one vCPU that does not divide, which goes by order of UUID. A tenant's quota is a
 * second bound of the same kind over its VMs.
 *
 * What is lent must be there. A VM may hold more than it is entitled to, since its guest has not given it back yet; that
 * is not lent to another one's burst meanwhile, while a guarantee does not wait for it. What a guest would not give back
 * (`overdue`) counts against its own share first, and then against the shares of its priority and below, so that who
 * refuses takes from nobody above it, and no more than one share from each of its own.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/rule.h"
#include "proto/cpupolicy-proto.h"

#define LEDGER_UNLIMITED UINT32_MAX
#define LEDGER_NO_TENANT UINT32_MAX

/* One VM's side. All zero is a VM that is not running. In vCPUs. */
struct ledger_demand {
	bool running; /* has a VMM, connected or not: its guarantee is reserved; else all of it counts as 0 */
	bool may_burst;
	uint32_t guaranteed; /* what its class guarantees it, at most its possible vCPUs */
	uint32_t demand;     /* what it wants: desired within its limit; at least 1 */
	uint32_t held;       /* what its guest has or is about to get: enabled, asked back or not, durable or not */
	uint32_t overdue;    /* of those, what will not be given back: refused, ignored, not to be taken */
};

struct ledger_share {
	uint32_t allowance; /* what it may have now: at least min(demand, guaranteed), at most the demand */
	uint32_t entitled;  /* what it may have once everybody has given back what was asked back */
	enum rule
		bound; /* what keeps `allowance` below the demand: RULE_NONE, _CREDIT, _DRAINED, _TENANT or _CAPACITY */
};

/* Embedded in the VM; read only for everybody else. */
struct ledger_entry {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint32_t slot; /* the ledger's */
	bool listed;
};

struct ledger_sums {
	uint64_t reserved;   /* guarantees of all running VMs, used or not */
	uint64_t guaranteed; /* guaranteed parts */
	uint64_t allowed;    /* allowances */
	uint64_t held;
	uint64_t occupied; /* of each VM its allowance, or what it holds if that is more */
	uint64_t overdue;  /* held beyond the allowances */
};

struct ledger_tenant {
	uint32_t quota; /* vCPUs; LEDGER_UNLIMITED */
	struct ledger_sums sums;
};

struct ledger_slot; /* ledger.c */

struct ledger {
	struct ledger_slot *slots; /* in order of priority, highest first, and UUID */
	uint32_t *by_tenant;       /* slots in order of priority, tenant and UUID */
	struct ledger_tenant *tenants;
	uint64_t *rooms; /* scratch, by tenant */
	uint32_t n;
	uint32_t n_tenants;
	uint32_t room;     /* for entries */
	uint32_t capacity; /* LEDGER_UNLIMITED */
	bool drained;
	bool dirty; /* something changed since ledger_allocate() */
	struct ledger_sums sums;
};

void ledger_init(struct ledger *l); /* unlimited, no tenant */
void ledger_clear(struct ledger *l);

/* Room for so many entries. -ENOMEM: nothing changed. */
int ledger_reserve(struct ledger *l, uint32_t entries);
/* New tenants with these quotas, in place of the old; entries that name one which is not there any more must be placed
 * anew before the next ledger_allocate(). -ENOMEM: nothing changed. */
int ledger_set_tenants(struct ledger *l, const uint32_t *quotas, uint32_t n);
void ledger_set_capacity(struct ledger *l, uint32_t capacity);
void ledger_set_drained(struct ledger *l, bool drained);

/* entry->uuid is set; ledger_reserve() made room. Not running until ledger_update(). */
void ledger_add(struct ledger *l, struct ledger_entry *entry, uint32_t priority, uint32_t tenant);
void ledger_remove(struct ledger *l, struct ledger_entry *entry);
/* Another priority or tenant. */
void ledger_place(struct ledger *l, struct ledger_entry *entry, uint32_t priority, uint32_t tenant);

void ledger_update(struct ledger *l, const struct ledger_entry *entry, const struct ledger_demand *demand);
const struct ledger_demand *ledger_demand(const struct ledger *l, const struct ledger_entry *entry);
const struct ledger_share *ledger_share(const struct ledger *l, const struct ledger_entry *entry);

/* Computes every share anew if something changed; `changed` (may be NULL) is told of each that did, in order of priority
 * and UUID, after all are computed. It may call ledger_update(), which takes effect at the next call. */
void ledger_allocate(struct ledger *l, void (*changed)(struct ledger_entry *entry, void *userdata), void *userdata);

/* The share that an entry would have with this demand. Nothing changes. */
struct ledger_share ledger_try(struct ledger *l, const struct ledger_entry *entry, const struct ledger_demand *demand);

/* Whether `guaranteed` more vCPUs could be reserved for good: RULE_NONE, RULE_TENANT or RULE_CAPACITY. *ret_free: how many
 * the bound that refuses (or the tighter one) leaves; UINT64_MAX: no bound. `instead` (may be NULL): of an entry whose own
 * guarantee would be given up for it. */
enum rule ledger_admit(const struct ledger *l, const struct ledger_entry *instead, uint32_t tenant, uint32_t guaranteed,
		       uint64_t *ret_free);

#endif
