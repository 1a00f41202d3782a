/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_H
#define CPUPOLICYD_STORE_H

/*
 * What survives: one SQLite database in the state directory, and the lock that keeps a second daemon out. Writing and
 * syncing happen on a thread of the store's own; answers come back on the loop. Everything that waits when the thread
 * becomes free goes into one transaction (group commit).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/core/job.h"
#include "daemon/loop.h"
#include "proto/cpupolicy-proto.h"

struct store;

/* The durable part of a VM; see daemon/core/vm.h for what each means. */
struct store_vm {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	char *name;
	uint32_t possible;
	uint32_t boot;
	uint32_t desired;
	bool desired_set;
	bool boot_removable;
	bool notify;
	bool stopped; /* no VMM held it when this was written */
	uint32_t epoch;
	uint8_t *enabled; /* bits, (possible + 7) / 8 bytes */
	uint8_t *wanted;
	uid_t uid; /* of the VMM */
	pid_t pid; /* loaded: PEER_PID_GONE if the host was started again since */
	uint64_t start_time;
	uint32_t desired_uid; /* who asked for `desired`; (uint32_t)-1: nobody */
	struct job job;       /* in flight if id != 0 */
	struct job last_job;
};
void store_vm_clear(struct store_vm *vm);

/*
 * Takes the lock of `directory`, opens or creates the database and starts the thread. -EBUSY: another daemon has it.
 * -EBADMSG: damaged; -ENOTSUP: written by a newer version; nothing is changed then. On failure *ret_error is a message
 * to print and free, or NULL if there is no memory for one.
 */
int store_open(struct store **ret, struct loop *loop, const char *directory, char **ret_error);
/* Finishes what was queued; callbacks that have not run are dropped. Not from a callback. */
struct store *store_close(struct store *store);

/* Every record in order of UUID; for start-up, before anything is queued. fn returns < 0 to stop; the record is cleared
 * by the store unless fn zeroes it. On failure as store_open(). */
int store_load(struct store *store, int (*fn)(struct store_vm *vm, void *userdata), void *userdata, char **ret_error);

/* `error`: 0, or a negative errno value with `why` as a sentence; nothing was written then, and it is not tried again.
 * Runs on the loop. */
typedef void (*store_done_fn)(int error, const char *why, void *userdata);

/*
 * Queues the record (contents taken over, on success only). -ENOMEM, or 0: `fn` runs once it is durable, or failed.
 * What is queued for one VM while the thread is busy becomes one write, of the latest; each `fn` runs with that one's
 * outcome.
 */
int store_put(struct store *store, struct store_vm *vm, store_done_fn fn, void *userdata);
int store_delete(struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE], store_done_fn fn, void *userdata);

#endif
