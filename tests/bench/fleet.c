/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * fleet VMS
 *
 * The pure machine, without daemon: what a verdict costs among so many VMs and with one alone, and what a change of the
 * host's capacity costs, which moves VMs of mixed classes; beside it one qsort() of as many records by the same order.
 * Memory that a verdict allocated would be an error, not a figure.
 */

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/fleet.h"
#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

#define BATCHES  300
#define CALLS    10000u
#define CHANGES  200
#define POSSIBLE 8u
#define BOOT     4u
#define CLASSES  8u

static struct service_class classes[CLASSES];
static uint64_t now = 1;

/* By priority, by what they guarantee, some metered. */
static void make_classes(void)
{
	for (unsigned i = 0; i < CLASSES; i++) {
		class_default(&classes[i]);
		classes[i].guaranteed = 1 + i % 3;
		classes[i].priority = i / 2;
		if (i % 4 == 3)
			classes[i].burst = (struct class_burst){
				.metered = true, .cap = CLASS_CREDIT_MAX, .initial = CLASS_CREDIT_MAX, .resume = 1};
	}
}

static struct fleet_answer apply(struct fleet *f, struct fleet_event event)
{
	event.now = now += 1000;
	return fleet_apply(f, &event);
}

/* All that the caller of a fleet does with effects, but for what is outside. */
static unsigned drain(struct fleet *f)
{
	uint8_t granted[CPUPOLICY_MAX_VCPUS / 8], wanted[CPUPOLICY_MAX_VCPUS / 8];
	struct fleet_vm *m;
	unsigned effects, n = 0;

	while ((m = fleet_next(f, &effects))) {
		n++;
		if (!(effects & VM_EFFECT_STORE))
			continue;
		memset(granted, 0, sizeof(granted));
		vm_record_grants(m->core, granted, wanted);
		apply(f, (struct fleet_event){.kind = FLEET_STORED,
					      .vm = m,
					      .revision = m->core->revision,
					      .granted = granted,
					      .ok = true});
	}
	return n;
}

static struct fleet_vm *fill(struct fleet *f, uint32_t n)
{
	struct fleet_vm *vms = calloc(n, sizeof(*vms));
	struct cpupolicy_vcpu vcpus[POSSIBLE] = {{.flags = CPUPOLICY_VCPU_ONLINE}};
	const struct vm_registration registration = {
		.boot = BOOT,
		.flags = CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE,
		.run_state = CPUPOLICY_RUN_RUNNING,
		.vcpus = vcpus,
	};

	if (!vms)
		bench_fail("out of memory");
	fleet_init(f, &(struct fleet_ops){0}, &(struct usage_clock){.boot = now, .real = now});
	for (uint32_t i = 0; i < n; i++) {
		struct fleet_assignment assignment = {.class = &classes[i % CLASSES], .tenant = FLEET_NO_TENANT};

		vmm_uuid(vms[i].uuid);
		vms[i].name = "vm";
		if (vm_new(&vms[i].core, POSSIBLE, assignment.class) < 0 || fleet_add(f, &vms[i], &assignment, now) < 0)
			bench_fail("out of memory");
		apply(f, (struct fleet_event){.kind = FLEET_START, .vm = &vms[i], .registration = &registration});
		drain(f);
	}
	return vms;
}

static void empty(struct fleet *f, struct fleet_vm *vms, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		fleet_remove(f, &vms[i], now);
		vm_free(vms[i].core);
	}
	fleet_clear(f);
	free(vms);
}

/* One VM, or all in turn; mean of many, in picoseconds. */
static void measure_decision(struct fleet *f, struct fleet_vm *vms, uint32_t n, const char *name)
{
	struct bench_samples samples;
	size_t before;

	bench_samples_init(&samples, BATCHES);
	before = mallinfo2().uordblks;
	for (unsigned i = 0; i < BATCHES; i++) {
		uint64_t at = bench_now();

		for (unsigned k = 0; k < CALLS; k++) {
			struct fleet_answer a = fleet_apply(
				f, &(struct fleet_event){
					   .kind = FLEET_ASK, .now = now, .vm = &vms[k % n], .vcpu = VMM_ASKED_VCPU});

			if (a.verdict.psci != CPUPOLICY_PSCI_SUCCESS)
				bench_fail("a vCPU is not allowed");
		}
		bench_samples_add(&samples, (bench_now() - at) * 1000 / CALLS);
	}
	if (mallinfo2().uordblks != before)
		bench_fail("verdicts allocate memory");
	bench_samples_print(name, &samples);
	bench_samples_clear(&samples);
}

struct record {
	uint32_t priority;
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint32_t demand, held;
};

static int compare(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	return memcmp(x->uuid, y->uuid, sizeof(x->uuid));
}

static void measure_sort(const struct fleet_vm *vms, uint32_t n, struct record *records, struct bench_samples *samples)
{
	uint64_t at;

	for (uint32_t i = 0; i < n; i++) {
		records[i] = (struct record){.priority = vms[i].class->priority};
		memcpy(records[i].uuid, vms[i].uuid, sizeof(records[i].uuid));
	}
	at = bench_now();
	qsort(records, n, sizeof(*records), compare);
	bench_samples_add(samples, bench_now() - at);
}

/* Room for three quarters of what is wanted, and for all of it, in turn. What it sets off at the disk is not part of it. */
static void measure_capacity(struct fleet *f, struct fleet_vm *vms, uint32_t n)
{
	struct bench_samples changed, sorted;
	struct record *records = calloc(n, sizeof(*records));

	if (!records)
		bench_fail("out of memory");
	bench_samples_init(&changed, CHANGES);
	bench_samples_init(&sorted, CHANGES);
	for (unsigned i = 0; i < CHANGES; i++) {
		uint32_t capacity = i % 2 ? BOOT * n : BOOT * n * 3 / 4;
		uint64_t at = bench_now();

		apply(f, (struct fleet_event){.kind = FLEET_CAPACITY, .count = capacity});
		bench_samples_add(&changed, bench_now() - at);
		if (drain(f) < n / 8)
			bench_fail("the change did not move VMs");
		measure_sort(vms, n, records, &sorted);
	}
	bench_samples_print("capacity", &changed);
	bench_samples_print("sort", &sorted);
	bench_samples_clear(&changed);
	bench_samples_clear(&sorted);
	free(records);
}

int main(int argc, char **argv)
{
	struct fleet_vm *vms, *alone;
	struct fleet many, one;
	uint32_t n;

	if (argc != 2)
		bench_fail("usage: fleet VMS");
	n = bench_number(argv[1], 16);
	make_classes();
	alone = fill(&one, 1);
	vms = fill(&many, n);
	measure_decision(&one, alone, 1, "alone");
	measure_decision(&many, vms + n / 2, 1, "among");
	measure_decision(&many, vms, n, "in-turn");
	measure_capacity(&many, vms, n);
	empty(&one, alone, 1);
	empty(&many, vms, n);
	return 0;
}
