/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * page DAEMON-SOCKET
 *
 * What a VMM pays for a verdict that the policy page answers, through libcpupolicy and with a page that the real daemon
 * shares; beside it the least that such an answer can cost, one load from shared memory. Too short to be timed singly:
 * the mean of many, and the quantiles of such means.
 */

#include "proto/page.h"
#include "tests/bench/bench.h"
#include "tests/bench/library.h"
#include "tests/bench/vmm.h"

#define BATCHES 300
#define CALLS   10000u
/* No more than the socket takes at once. */
#define POWER_CALLS 32u
#define POSSIBLE    8u
#define BOOT        4u
#define ALLOWED     1u /* of the boot set */
#define DENIED      6u /* beyond it */

static void measure(struct library *l, const char *name, uint32_t target, enum cpupolicy_answer expected)
{
	struct bench_samples samples;
	enum cpupolicy_reason reason;

	bench_samples_init(&samples, BATCHES);
	for (unsigned i = 0; i < BATCHES; i++) {
		uint64_t at = bench_now();

		for (unsigned k = 0; k < CALLS; k++)
			if (cpupolicy_cpu_on(l->policy, 0, target, CPUPOLICY_PSCI_CPU_ON_64, &reason) != expected)
				bench_fail("%s: not the verdict that was expected", name);
		bench_samples_add(&samples, (bench_now() - at) * 1000 / CALLS);
		library_dispatch(l, 0);
	}
	bench_samples_print(name, &samples);
	bench_samples_clear(&samples);
}

/*
 * The whole of a CPU_ON: verdict, the second look right before power-on, the event sent. Between batches the daemon gets
 * the time to read: a library that cannot send gives the single events up and reports everything at once later, which would
 * be another figure; a batch in which it did so is left out.
 */
static void measure_power_on(struct library *l)
{
	struct bench_samples samples;
	enum cpupolicy_reason reason;

	bench_samples_init(&samples, BATCHES);
	for (unsigned i = 0; i < BATCHES; i++) {
		uint64_t states = l->states, at = bench_now(), ns;

		for (unsigned k = 0; k < POWER_CALLS; k++)
			if (cpupolicy_cpu_on(l->policy, 0, ALLOWED, CPUPOLICY_PSCI_CPU_ON_64, &reason) !=
				    CPUPOLICY_ANSWER_ALLOW ||
			    !cpupolicy_power_on(l->policy, ALLOWED, reason))
				bench_fail("the vCPU was not allowed");
		ns = bench_now() - at;
		cpupolicy_power_off(l->policy, ALLOWED);
		bench_pause(2000000);
		library_dispatch(l, 0);
		if (l->states == states)
			bench_samples_add(&samples, ns * 1000 / POWER_CALLS);
	}
	bench_samples_print("power-on", &samples);
	bench_samples_clear(&samples);
}

static void measure_load(const struct cpupolicy_page *page)
{
	struct bench_samples samples;

	bench_samples_init(&samples, BATCHES);
	for (unsigned i = 0; i < BATCHES; i++) {
		uint64_t at = bench_now();

		for (unsigned k = 0; k < CALLS; k++)
			if (!(cpupolicy_page_load_word(page, ALLOWED) & CPUPOLICY_WORD_ENABLED))
				bench_fail("the vCPU is not enabled");
		bench_samples_add(&samples, (bench_now() - at) * 1000 / CALLS);
	}
	bench_samples_print("load", &samples);
	bench_samples_clear(&samples);
}

/* Samples are printed in picoseconds: a load takes less than a nanosecond. */
int main(int argc, char **argv)
{
	struct library library;
	struct vmm vmm;

	if (argc != 2)
		bench_fail("usage: page DAEMON-SOCKET");
	library_start(&library, argv[1], "page", POSSIBLE, BOOT);
	vmm_start(&vmm, 1, argv[1], "load", POSSIBLE, BOOT);
	bench_pin(0, 0);
	measure(&library, "allow", ALLOWED, CPUPOLICY_ANSWER_ALLOW);
	measure(&library, "deny", DENIED, CPUPOLICY_ANSWER_DENY);
	measure_power_on(&library);
	measure_load(vmm.page);
	library_end(&library);
	return 0;
}
