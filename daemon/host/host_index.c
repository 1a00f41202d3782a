/* SPDX-License-Identifier: GPL-2.0-or-later */

/* VMs come and go seldom and are looked up often: sorted arrays, binary search, memmove. */

#include <string.h>

#include "daemon/host/host_private.h"
#include "daemon/base/util.h"

static int compare_uuid(const void *key, const struct host_vm *vm)
{
	return memcmp(key, vm->uuid, sizeof(vm->uuid));
}

static int compare_name(const void *key, const struct host_vm *vm)
{
	return strcmp(key, vm->name);
}

/* Where `key` is, or belongs. */
static size_t position(struct host_vm *const *array, size_t n, const void *key,
		       int (*compare)(const void *key, const struct host_vm *vm), bool *ret_found)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = compare(key, array[middle]);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	*ret_found = false;
	return low;
}

static size_t position_job(const struct host_index *index, uint64_t id, bool *ret_found)
{
	size_t low = 0, high = index->n_jobs;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (index->jobs[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = low < index->n_jobs && index->jobs[low].id == id;
	return low;
}

static int reserve(struct host_index *index)
{
	size_t capacity = index->capacity ? 2 * index->capacity : 16;
	struct host_vm **vms;
	struct host_job_entry *jobs;

	if (index->n < index->capacity)
		return 0;
	vms = reallocarray(index->by_uuid, capacity, sizeof(*vms));
	if (!vms)
		return -ENOMEM;
	index->by_uuid = vms;
	vms = reallocarray(index->by_name, capacity, sizeof(*vms));
	if (!vms)
		return -ENOMEM;
	index->by_name = vms;
	jobs = reallocarray(index->jobs, capacity, sizeof(*jobs));
	if (!jobs)
		return -ENOMEM;
	index->jobs = jobs;
	index->capacity = capacity;
	return 0;
}

static void insert(struct host_vm **array, size_t n, size_t at, struct host_vm *vm)
{
	memmove(array + at + 1, array + at, (n - at) * sizeof(*array));
	array[at] = vm;
}

static void cut(struct host_vm **array, size_t n, size_t at)
{
	memmove(array + at, array + at + 1, (n - at - 1) * sizeof(*array));
}

int host_index_add(struct host_index *index, struct host_vm *vm)
{
	size_t by_uuid, by_name;
	bool found;
	int r;

	by_uuid = position(index->by_uuid, index->n, vm->uuid, compare_uuid, &found);
	if (found)
		return -EEXIST;
	by_name = position(index->by_name, index->n, vm->name, compare_name, &found);
	if (found)
		return -EEXIST;
	r = reserve(index);
	if (r < 0)
		return r;
	insert(index->by_uuid, index->n, by_uuid, vm);
	insert(index->by_name, index->n, by_name, vm);
	index->n++;
	return 0;
}

void host_index_remove(struct host_index *index, struct host_vm *vm)
{
	bool found;
	size_t at;

	host_index_set_job(index, vm, 0);
	at = position(index->by_uuid, index->n, vm->uuid, compare_uuid, &found);
	if (!found)
		return;
	cut(index->by_uuid, index->n, at);
	at = position(index->by_name, index->n, vm->name, compare_name, &found);
	if (found)
		cut(index->by_name, index->n, at);
	index->n--;
}

void host_index_clear(struct host_index *index)
{
	free(index->by_uuid);
	free(index->by_name);
	free(index->jobs);
	*index = (struct host_index){0};
}

struct host_vm *host_index_uuid(const struct host_index *index, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	bool found;
	size_t at = position(index->by_uuid, index->n, uuid, compare_uuid, &found);

	return found ? index->by_uuid[at] : NULL;
}

struct host_vm *host_index_name(const struct host_index *index, const char *name)
{
	bool found;
	size_t at = position(index->by_name, index->n, name, compare_name, &found);

	return found ? index->by_name[at] : NULL;
}

struct host_vm *host_index_after_uuid(const struct host_index *index, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	bool found;
	size_t at = position(index->by_uuid, index->n, uuid, compare_uuid, &found);

	at += found;
	return at < index->n ? index->by_uuid[at] : NULL;
}

struct host_vm *host_index_after(const struct host_index *index, const struct host_vm *vm)
{
	if (vm)
		return host_index_after_uuid(index, vm->uuid);
	return index->n > 0 ? index->by_uuid[0] : NULL;
}

struct host_vm *host_index_job(const struct host_index *index, uint64_t id)
{
	bool found;
	size_t at = position_job(index, id, &found);

	return found ? index->jobs[at].vm : NULL;
}

void host_index_set_job(struct host_index *index, struct host_vm *vm, uint64_t id)
{
	bool found;
	size_t at;

	if (vm->job == id)
		return;
	if (vm->job != 0) {
		at = position_job(index, vm->job, &found);
		if (found)
			memmove(index->jobs + at, index->jobs + at + 1, (--index->n_jobs - at) * sizeof(*index->jobs));
	}
	vm->job = id;
	if (id == 0)
		return;
	at = position_job(index, id, &found);
	memmove(index->jobs + at + 1, index->jobs + at, (index->n_jobs++ - at) * sizeof(*index->jobs));
	index->jobs[at] = (struct host_job_entry){.id = id, .vm = vm};
}
