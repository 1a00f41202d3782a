/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bus/bus_vm.h"
#include "daemon/base/util.h"

const char *bus_job_path(uint64_t id, char path[static BUS_JOB_PATH_SIZE])
{
	snprintf(path, BUS_JOB_PATH_SIZE, BUS_JOB_ROOT "/%" PRIu64, id);
	return path;
}

/* Only what bus_job_path() writes: one job has one path. */
static uint64_t path_to_id(const char *path)
{
	char again[BUS_JOB_PATH_SIZE];
	uint64_t id;

	if (strncmp(path, BUS_JOB_ROOT "/", sizeof(BUS_JOB_ROOT)) != 0)
		return 0;
	id = strtoull(path + sizeof(BUS_JOB_ROOT), NULL, 10);
	return strcmp(bus_job_path(id, again), path) == 0 ? id : 0;
}

static int find(sd_bus *sd, const char *path, const char *interface, void *userdata, void **ret_found,
		sd_bus_error *ret_error)
{
	uint64_t id = path_to_id(path);
	struct host_vm *vm = id != 0 ? host_find_job(userdata, id) : NULL;

	if (!vm)
		return 0;
	*ret_found = vm;
	return 1;
}

static void free_paths(char **paths)
{
	for (char **p = paths; p && *p; p++)
		free(*p);
	free(paths);
}

/* One per VM at most: a VM has one job. */
static int enumerate(sd_bus *sd, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *ret_error)
{
	struct host *host = userdata;
	char **paths = calloc(host_count(host) + 1, sizeof(*paths));
	size_t n = 0;

	if (!paths)
		return -ENOMEM;
	for (struct host_vm *vm = host_next(host, NULL); vm; vm = host_next(host, vm)) {
		uint64_t id = host_vm_core(vm)->job.id;
		char path[BUS_JOB_PATH_SIZE];

		if (id == 0 || n == host_count(host))
			continue;
		paths[n] = strdup(bus_job_path(id, path));
		if (!paths[n++]) {
			free_paths(paths);
			return -ENOMEM;
		}
	}
	*ret_nodes = paths;
	return 0;
}

#define GETTER(name, signature, expression)                                                                            \
	static int get_##name(sd_bus *sd, const char *path, const char *interface, const char *property,               \
			      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)                          \
	{                                                                                                              \
		const struct job *job = &host_vm_core(userdata)->job;                                                  \
                                                                                                                       \
		return sd_bus_message_append(reply, signature, expression);                                            \
	}

GETTER(id, "t", job->id)
GETTER(from, "u", job->from)
GETTER(to, "u", job->to)
GETTER(uid, "u", job->uid)
GETTER(pending, "u", job->pending)
GETTER(settled, "u", job->settled)
GETTER(refused, "u", job->refused)

static int get_vm(sd_bus *sd, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		  void *userdata, sd_bus_error *ret_error)
{
	char vm[BUS_VM_PATH_SIZE];

	return sd_bus_message_append(reply, "o", bus_vm_path(userdata, vm));
}

static const sd_bus_vtable job_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Id", "t", get_id, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("VirtualMachine", "o", get_vm, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("From", "u", get_from, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("To", "u", get_to, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Uid", "u", get_uid, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Pending", "u", get_pending, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Settled", "u", get_settled, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Refused", "u", get_refused, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};

int bus_job_add(sd_bus *sd, struct host *host)
{
	int r;

	r = sd_bus_add_fallback_vtable(sd, NULL, BUS_JOB_ROOT, BUS_JOB_INTERFACE, job_vtable, find, host);
	if (r < 0)
		return r;
	return sd_bus_add_node_enumerator(sd, NULL, BUS_JOB_ROOT, enumerate, host);
}
