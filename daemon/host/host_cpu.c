/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What a VM's process uses of the CPUs, beside the vCPUs that were granted to it: against a VMM that the guest has taken
 * over the page means nothing, and this shows it. Both are counted from the same moment. Read when somebody asks.
 */

#include <string.h>

#include "daemon/host/host_private.h"

/* The bridge speaks for VMs that have processes of their own. */
static bool is_provider(const struct host *host, pid_t pid)
{
	for (const struct host_provider *p = host->providers; p; p = p->next)
		if (p->pid == pid)
			return true;
	return false;
}

/* Which process is the VM's; pid 0: not known. */
static struct host_cpu process_of(const struct host_vm *vm)
{
	const struct host_announcement *a = host_announcement_find(vm->host, vm->uuid);

	if (vm->core->link == VM_STOPPED)
		return (struct host_cpu){0};
	if (a && a->pid > 0)
		return (struct host_cpu){.pid = a->pid, .start_time = a->start_time};
	if (vm->peer.pid <= 0 || is_provider(vm->host, vm->peer.pid))
		return (struct host_cpu){0};
	return (struct host_cpu){.pid = vm->peer.pid, .start_time = vm->peer.start_time};
}

static uint64_t granted(const struct host_vm *vm)
{
	uint64_t guaranteed_ns, burst_ns;

	if (!vm->entered)
		return 0;
	fleet_usage(&vm->host->fleet, &vm->member, host_now(vm->host), &guaranteed_ns, &burst_ns);
	return guaranteed_ns + burst_ns;
}

void host_cpu_begin(struct host_vm *vm)
{
	struct host_cpu cpu = process_of(vm);

	if (cpu.pid == vm->cpu.pid && cpu.start_time == vm->cpu.start_time)
		return;
	if (cpu.pid > 0 && peer_cpu_time(cpu.pid, cpu.start_time, &cpu.used) < 0)
		cpu = (struct host_cpu){0};
	cpu.granted = granted(vm);
	vm->cpu = cpu;
}

bool host_vm_cpu(const struct host_vm *vm, uint64_t *ret_used, uint64_t *ret_granted)
{
	const struct host_cpu *cpu = &vm->cpu, now = process_of(vm);
	uint64_t used;

	*ret_used = *ret_granted = 0;
	/* Another one, of which nothing was noted when it came, or a provider's after all: nothing is known of it. */
	if (cpu->pid <= 0 || cpu->pid != now.pid || cpu->start_time != now.start_time ||
	    peer_cpu_time(cpu->pid, cpu->start_time, &used) < 0)
		return false;
	*ret_used = used > cpu->used ? used - cpu->used : 0;
	*ret_granted = granted(vm) - cpu->granted;
	return true;
}
