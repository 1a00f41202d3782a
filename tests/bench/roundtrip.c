/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * roundtrip DAEMON-SOCKET PING-PONG-SOCKET COUNT
 *
 * One VM asks, waits for the verdict, asks again; and the same client plays ping-pong with a server that only answers.
 * A second VM asks through libcpupolicy. They take turns in short batches, so that whatever else the machine does meets
 * all of them.
 */

#include <string.h>

#include "tests/bench/bench.h"
#include "tests/bench/library.h"
#include "tests/bench/vmm.h"

#define BATCH 250

static void play(int fd, const uint8_t *request, const uint8_t *expected, unsigned n, struct bench_samples *samples)
{
	uint8_t reply[VMM_REPLY_SIZE];

	for (unsigned i = 0; i < n; i++) {
		uint64_t start = bench_now();

		bench_write_all(fd, request, VMM_ASK_SIZE);
		bench_read_all(fd, reply, sizeof(reply));
		if (samples)
			bench_samples_add(samples, bench_now() - start);
		if (memcmp(reply, expected, sizeof(reply)) != 0)
			bench_fail("not the reply that was expected");
	}
}

static void play_library(struct library *l, unsigned n, struct bench_samples *samples)
{
	enum cpupolicy_reason reason;

	for (unsigned i = 0; i < n; i++) {
		uint64_t verdicts = l->verdicts, start = bench_now();

		if (cpupolicy_cpu_on(l->policy, 0, VMM_ASKED_VCPU, CPUPOLICY_PSCI_CPU_ON_64, &reason) !=
		    CPUPOLICY_ANSWER_ASKED)
			bench_fail("the library did not ask: %s", cpupolicy_reason_name(reason));
		while (l->verdicts == verdicts)
			library_dispatch(l, 10000);
		if (samples)
			bench_samples_add(samples, bench_now() - start);
		if (l->latest.reason != CPUPOLICY_REASON_GRANTED)
			bench_fail("not granted: %s", cpupolicy_reason_name(l->latest.reason));
	}
}

int main(int argc, char **argv)
{
	uint8_t ask[VMM_ASK_SIZE], verdict[VMM_REPLY_SIZE];
	struct bench_samples asked, bare, through;
	struct library library;
	struct vmm vmm;
	uint32_t count;
	int fd;

	if (argc != 4)
		bench_fail("usage: roundtrip DAEMON-SOCKET PING-PONG-SOCKET COUNT");
	count = bench_number(argv[3], BATCH);
	count -= count % BATCH;
	bench_samples_init(&asked, count);
	bench_samples_init(&bare, count);
	bench_samples_init(&through, count);
	vmm_encode_ask(ask, verdict);
	vmm_start(&vmm, 1, argv[1], "ask", 4, 2);
	library_start(&library, argv[1], "library", 4, 2);
	fd = bench_connect(argv[2]);
	bench_pin(0, 0);
	bench_pin(bench_peer_pid(vmm.fd), 1);
	bench_pin(bench_peer_pid(fd), 1);

	/* unmeasured, until caches and clocks are as they stay */
	for (unsigned i = 0; i < 8; i++) {
		play(vmm.fd, ask, verdict, BATCH, NULL);
		play(fd, ask, ask, BATCH, NULL);
		play_library(&library, BATCH, NULL);
	}
	while (bare.n < count) {
		play(vmm.fd, ask, verdict, BATCH, &asked);
		play(fd, ask, ask, BATCH, &bare);
		play_library(&library, BATCH, &through);
	}
	bench_samples_print("asked", &asked);
	bench_samples_print("bare", &bare);
	bench_samples_print("library", &through);
	library_end(&library);
	bench_samples_clear(&asked);
	bench_samples_clear(&bare);
	bench_samples_clear(&through);
	return 0;
}
