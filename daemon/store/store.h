/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_H
#define CPUPOLICYD_STORE_H

/*
 * What survives: one SQLite database in the state directory, and the lock that keeps a second daemon out. Writing and
 * syncing happen on a thread of the store's own; answers come back on the loop. Everything that waits when the thread
 * becomes free goes into one transaction (group commit). Reading usage and making a backup are done by the same thread,
 * in steps between which writes have their turn.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/loop.h"
#include "daemon/store/store_announcement.h"
#include "daemon/store/store_vm.h"
#include "proto/cpupolicy-proto.h"

struct store;

/* The durable part of the host. */
struct store_host {
	bool frozen;
	bool drained;
	uint32_t frozen_uid; /* who said so last; (uint32_t)-1: nobody */
	uint32_t drained_uid;
};

/*
 * Takes the lock of `directory`, opens or creates the database and starts the thread. -EBUSY: another daemon has it.
 * -EBADMSG: damaged; -ENOTSUP: written by a newer version; nothing is changed then. On failure *ret_error is a message
 * to print and free, or NULL if there is no memory for one.
 */
int store_open(struct store **ret, struct loop *loop, const char *directory, char **ret_error);
/* Finishes what was queued to be written, abandons queries and backups; callbacks that have not run are dropped. Not
 * from a callback. */
struct store *store_close(struct store *store);

/* Nothing that was put, deleted or set waits any more, and all that waited for it was told. */
bool store_is_idle(const struct store *store);
/* Runs whenever that becomes so. NULL: no more. */
void store_on_idle(struct store *store, loop_fn fn, void *userdata);

/* Every record in order of UUID; for start-up, before anything is queued. fn returns < 0 to stop; the record is cleared
 * by the store unless fn zeroes it. On failure as store_open(). */
int store_load(struct store *store, int (*fn)(struct store_vm *vm, void *userdata), void *userdata, char **ret_error);
/* The same for the host. */
int store_load_host(struct store *store, struct store_host *ret, char **ret_error);

/* `error`: 0, or a negative errno value with `why` as a sentence; nothing was written then, and it is not tried again.
 * Runs on the loop. */
typedef void (*store_done_fn)(int error, const char *why, void *userdata);

/*
 * Queues the record (contents taken over, on success only). -ENOMEM, or 0: `fn` runs once it is durable, or failed.
 * What is queued for one VM while the thread is busy becomes one write, of the latest, with the usage rows of all; each
 * `fn` runs with that one's outcome. A usage row replaces an earlier state of itself: same VM, number and begin.
 */
int store_put(struct store *store, struct store_vm *vm, store_done_fn fn, void *userdata);
/* The record goes; its usage stays, the open row included as it was last put. */
int store_delete(struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE], store_done_fn fn, void *userdata);
int store_put_host(struct store *store, const struct store_host *host, store_done_fn fn, void *userdata);

/* ---- announcements ---- */

/* All of them or none. The list is taken over, on success only; one without a provider removes what is there. Lists
 * are written in the order in which they are given. */
int store_put_announcements(struct store *store, struct store_announcement *list, size_t n, store_done_fn fn,
			    void *userdata);
/* Each in order of UUID, as store_load(); fn takes what it wants out of it. */
int store_load_announcements(struct store *store, int (*fn)(struct store_announcement *announcement, void *userdata),
			     void *userdata, char **ret_error);

/* ---- usage ---- */

struct store_usage_filter {
	uint64_t since;      /* wall clock, ns: rows that begin then or later ... */
	uint64_t until;      /* ... and before this; UINT64_MAX: all */
	const char *tenant;  /* NULL: all; "": those without one */
	const uint8_t *uuid; /* NULL: all VMs */
	bool totals;         /* one row for each VM, class and tenant, instead of each hour's */
};

struct store_usage_row {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	const char *name; /* of the VM, then; under another one it has another total */
	const char *class;
	const char *tenant;   /* NULL: none */
	struct usage_row row; /* of a total: the first begin, the last end, the sums; `number` is how many rows */
};

#define STORE_USAGE_BATCH 512u

/*
 * Part of the answer, on the loop: at most STORE_USAGE_BATCH rows, valid during the call. `error` as in store_done_fn;
 * then there are none, and it is the last. < 0: the caller wants no more, that was the last.
 */
typedef int (*store_usage_fn)(const struct store_usage_row *rows, size_t n, bool last, int error, const char *why,
			      void *userdata);
/* The rows that are durable when the query begins, in order of begin, UUID and number; totals in order of tenant, name,
 * UUID and class. -EOVERFLOW: a total exceeds 2^63 vCPU-ns. -ENOMEM, or 0: `fn` runs, until `last`. The filter is
 * copied. */
int store_usage_query(struct store *store, const struct store_usage_filter *filter, store_usage_fn fn, void *userdata);

/* ---- backup ---- */

/* A consistent copy of the database as the new file `path` (absolute; mode 0600), there only once it is whole and
 * durable. -EEXIST: there is a file. -ENOMEM, or 0: `fn` runs. */
int store_backup(struct store *store, const char *path, store_done_fn fn, void *userdata);

#endif
