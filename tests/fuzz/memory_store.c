/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/fuzz/memory_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct request {
	STAILQ_ENTRY(request) entry;
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	struct store_vm vm; /* name NULL: delete */
	store_done_fn fn;
	void *userdata;
};

struct record {
	STAILQ_ENTRY(record) entry;
	struct store_vm vm;
};

struct store {
	STAILQ_HEAD(, request) queue;
	STAILQ_HEAD(, record) records;
	struct loop_deferred *deferred;
	bool hold;
	bool fail;
};

static struct record *find(const struct store *store, const uint8_t *uuid)
{
	struct record *record;

	STAILQ_FOREACH(record, &store->records, entry)
		if (memcmp(record->vm.uuid, uuid, CPUPOLICY_UUID_SIZE) == 0)
			return record;
	return NULL;
}

static void apply(struct store *store, struct request *request)
{
	struct record *record = find(store, request->uuid);

	if (record) {
		STAILQ_REMOVE(&store->records, record, record, entry);
		store_vm_clear(&record->vm);
		free(record);
	}
	if (!request->vm.name)
		return;
	record = calloc(1, sizeof(*record));
	if (!record)
		abort();
	record->vm = request->vm;
	request->vm = (struct store_vm){0};
	STAILQ_INSERT_TAIL(&store->records, record, entry);
}

static void on_turn(void *userdata)
{
	struct store *store = userdata;

	while (!store->hold && !STAILQ_EMPTY(&store->queue)) {
		struct request *request = STAILQ_FIRST(&store->queue);

		STAILQ_REMOVE_HEAD(&store->queue, entry);
		if (!store->fail)
			apply(store, request);
		request->fn(store->fail ? -ENOSPC : 0, store->fail ? "the disk is full" : NULL, request->userdata);
		store_vm_clear(&request->vm);
		free(request);
	}
}

void memory_store_hold(struct store *store, bool hold)
{
	store->hold = hold;
	loop_deferred_schedule(store->deferred);
}

void memory_store_fail(struct store *store, bool fail)
{
	store->fail = fail;
}

bool memory_store_enabled(const struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE], uint32_t vcpu)
{
	const struct record *record = find(store, uuid);

	return record && vcpu < record->vm.possible && (record->vm.enabled[vcpu / 8] >> vcpu % 8 & 1);
}

uint32_t memory_store_epoch(const struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	const struct record *record = find(store, uuid);

	return record ? record->vm.epoch : 0;
}

int store_open(struct store **ret, struct loop *loop, const char *directory, char **ret_error)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return -ENOMEM;
	STAILQ_INIT(&store->queue);
	STAILQ_INIT(&store->records);
	if (loop_deferred_new(&store->deferred, loop, on_turn, store) < 0)
		abort();
	*ret = store;
	return 0;
}

struct store *store_close(struct store *store)
{
	while (!STAILQ_EMPTY(&store->queue)) {
		struct request *request = STAILQ_FIRST(&store->queue);

		STAILQ_REMOVE_HEAD(&store->queue, entry);
		store_vm_clear(&request->vm);
		free(request);
	}
	while (!STAILQ_EMPTY(&store->records)) {
		struct record *record = STAILQ_FIRST(&store->records);

		STAILQ_REMOVE_HEAD(&store->records, entry);
		store_vm_clear(&record->vm);
		free(record);
	}
	loop_deferred_free(store->deferred);
	free(store);
	return NULL;
}

int store_load(struct store *store, int (*fn)(struct store_vm *vm, void *userdata), void *userdata, char **ret_error)
{
	return 0;
}

static int enqueue(struct store *store, const uint8_t *uuid, struct store_vm *vm, store_done_fn fn, void *userdata)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return -ENOMEM;
	memcpy(request->uuid, uuid, sizeof(request->uuid));
	if (vm)
		request->vm = *vm;
	request->fn = fn;
	request->userdata = userdata;
	STAILQ_INSERT_TAIL(&store->queue, request, entry);
	loop_deferred_schedule(store->deferred);
	return 0;
}

int store_put(struct store *store, struct store_vm *vm, store_done_fn fn, void *userdata)
{
	return enqueue(store, vm->uuid, vm, fn, userdata);
}

int store_delete(struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE], store_done_fn fn, void *userdata)
{
	return enqueue(store, uuid, NULL, fn, userdata);
}

/* ---- of the host, and what only reads: not what is fuzzed ---- */

int store_load_host(struct store *store, struct store_host *ret, char **ret_error)
{
	*ret = (struct store_host){.frozen_uid = UINT32_MAX, .drained_uid = UINT32_MAX};
	return 0;
}

int store_put_host(struct store *store, const struct store_host *host, store_done_fn fn, void *userdata)
{
	static const uint8_t nobody[CPUPOLICY_UUID_SIZE];

	return enqueue(store, nobody, NULL, fn, userdata);
}

int store_put_announcements(struct store *store, struct store_announcement *list, size_t n, store_done_fn fn,
			    void *userdata)
{
	return -EOPNOTSUPP;
}

int store_load_announcements(struct store *store, int (*fn)(struct store_announcement *announcement, void *userdata),
			     void *userdata, char **ret_error)
{
	return 0;
}

int store_usage_query(struct store *store, const struct store_usage_filter *filter, store_usage_fn fn, void *userdata)
{
	return -EOPNOTSUPP;
}

int store_backup(struct store *store, const char *path, store_done_fn fn, void *userdata)
{
	return -EOPNOTSUPP;
}
