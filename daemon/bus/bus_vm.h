/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_VM_H
#define CPUPOLICYD_BUS_VM_H

/* VMs as objects: /org/cpupolicy1/vm/UUID. They exist in the host; per VM only what clients were last told is kept here. */

#include <systemd/sd-bus.h>

#include "daemon/bus/bus_call.h"
#include "daemon/host/host.h"

#define BUS_VM_ROOT      "/org/cpupolicy1/vm"
#define BUS_VM_INTERFACE "org.cpupolicy1.VirtualMachine"
#define BUS_VM_PATH_SIZE 128u

/* Returns `path`. */
const char *bus_vm_path(const struct host_vm *vm, char path[static BUS_VM_PATH_SIZE]);
const char *bus_vm_state(const struct host_vm *vm);

struct bus_vm_context {
	struct host *host;
	struct bus_calls *calls;
};
/* `context` outlives the connection. */
int bus_vm_add(sd_bus *sd, const struct bus_vm_context *context);

/* What PropertiesChanged is made from: a VM's properties as they were last sent. */
struct bus_vm_seen {
	uint64_t sets;   /* over all vCPUs' flags */
	uint64_t class;  /* over what is said of its class ... */
	uint64_t tenant; /* ... and its tenant */
	uint64_t provider;
	uint64_t denied;
	uint64_t job, last_job;
	int64_t credit, credit_cap;
	int32_t credit_rate;
	uint32_t generation, confirmed;
	uint32_t desired_uid, assigned_uid, vmm_uid, vmm_pid;
	uint16_t possible, desired, boot;
	uint32_t allowance, entitled;
	uint32_t millis, quota;
	uint16_t guaranteed, limit, priority, target;
	uint16_t pending, settled, refused; /* of the job */
	uint8_t link, run_state, flags, credit_state, reason, quota_state, means;
};
void bus_vm_look(const struct host_vm *vm, struct bus_vm_seen *ret);
/* Sends what differs, for the VM and its job, and makes *seen what was sent. */
int bus_vm_tell(sd_bus *sd, const struct host_vm *vm, struct bus_vm_seen *seen);

#endif
