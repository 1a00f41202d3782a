/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_VM_INFO_H
#define CPUCTL_VM_INFO_H

/* A VM as the bus tells it: read from GetAll, GetManagedObjects and PropertiesChanged alike, written as JSON. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#define VM_INFO_INTERFACE "org.cpupolicy1.VirtualMachine"
#define VM_INFO_NOBODY    UINT32_MAX /* no operator asked for `desired` */
#define VM_INFO_NO_QUOTA  UINT32_MAX

struct vm_job {
	uint64_t id; /* 0: none */
	uint32_t from, to, uid;
	char *result;
	bool online;
};

struct vm_vcpu {
	uint32_t index, denied;
	bool enabled, wanted, acknowledged, online, overdue;
	char *reason;
};

struct vm_info {
	char *path;
	char *name, *uuid, *state;
	char *class, *class_source, *tenant, *tenant_source;
	char *assigned_class, *assigned_tenant;              /* by an operator; "": not */
	char *announced_class, *announced_tenant, *provider; /* "": none */
	char *enforcement, *quota_state;
	bool realm;
	uint32_t cpu_millis;            /* 0: whole vCPUs */
	uint32_t quota;                 /* VM_INFO_NO_QUOTA */
	uint64_t cpu_time, cpu_granted; /* ns, vCPU-ns; both 0: not read, or not known */
	uint32_t class_rule, tenant_rule, assigned_uid;
	uint32_t guaranteed, limit, priority;
	uint32_t possible, boot, desired, desired_uid, target, allowance, entitled;
	char *target_reason; /* "none": the target is what is desired */
	bool waiting;
	uint32_t enabled, online, overdue;
	int64_t credit, credit_cap; /* vCPU-ns */
	int32_t credit_rate;        /* by what it changes per ns */
	char *credit_state;
	uint64_t used_guaranteed, used_burst; /* vCPU-ns, since the daemon started */
	char *enabled_set, *online_set, *pending_set, *overdue_set;
	uint32_t generation, confirmed;
	bool observe, notifiable, boot_removable;
	uint64_t denied;
	uint32_t vmm_uid, vmm_pid;
	char *job; /* path, "/": none */
	struct vm_job last_job;
	struct vm_vcpu *vcpus; /* NULL: not read */
	size_t n_vcpus;
};

/* Every text is there, if empty. */
int vm_info_init(struct vm_info *info, const char *path);
void vm_info_clear(struct vm_info *info);

/* Takes over what an a{sv} at the message's read position has; leaves the rest. */
int vm_info_read(struct vm_info *info, sd_bus_message *m);
/* The Vcpus property: a(ubbbbbsu) at the read position. */
int vm_info_read_vcpus(struct vm_info *info, sd_bus_message *m);

/* "1.5 CPUs, held by libvirt". Returns `text`. */
#define VM_INFO_QUOTA_SIZE 160
const char *vm_info_quota(const struct vm_info *info, char text[static VM_INFO_QUOTA_SIZE]);
/* "1.5" */
#define VM_INFO_CPUS_SIZE 16
const char *vm_info_cpus(uint32_t millis, char text[static VM_INFO_CPUS_SIZE]);

uint64_t vm_info_job_id(const char *job_path); /* 0: none */

/* NULL: out of memory */
json_t *vm_info_json(const struct vm_info *info);

#endif
