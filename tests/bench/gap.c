/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * gap DAEMON-SOCKET VMS
 *
 * So many VMs ask at once, again and again. "ready" when all are registered; then each line of standard input is
 * answered with what was seen since the one before, once every VM has its verdict: the longest that one waited, in
 * nanoseconds, how many there were, and how many were not what they had to be. A connection that ends is an error.
 */

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/page.h"
#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

/* Between two rounds: the machine is there for others as well. */
#define REST_NS 5000000

struct seen {
	uint64_t longest, verdicts, wrong;
};

static void ask_all(const struct vmm *vmms, uint32_t n, const uint8_t *ask, const uint8_t *expected, struct seen *seen)
{
	uint64_t begin = bench_now(), took;
	uint8_t reply[VMM_REPLY_SIZE];

	for (uint32_t i = 0; i < n; i++)
		bench_write_all(vmms[i].fd, ask, VMM_ASK_SIZE);
	for (uint32_t i = 0; i < n; i++) {
		bench_read_all(vmms[i].fd, reply, sizeof(reply));
		seen->wrong += memcmp(reply, expected, sizeof(reply)) != 0;
	}
	took = bench_now() - begin;
	if (took > seen->longest)
		seen->longest = took;
	seen->verdicts += n;
}

static bool is_asked(bool *ret_end)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	char c;

	if (poll(&in, 1, 0) <= 0)
		return false;
	*ret_end = read(STDIN_FILENO, &c, 1) <= 0;
	return !*ret_end;
}

int main(int argc, char **argv)
{
	uint8_t ask[VMM_ASK_SIZE], expected[VMM_REPLY_SIZE];
	struct seen seen = {0};
	struct vmm *vmms;
	bool end = false;
	uint32_t n;

	if (argc != 3)
		bench_fail("usage: gap DAEMON-SOCKET VMS");
	n = bench_number(argv[2], 1);
	vmms = calloc(n, sizeof(*vmms));
	if (!vmms)
		bench_fail("out of memory");
	vmm_encode_ask(ask, expected);
	vmm_start(vmms, n, argv[1], "gap", 4, 2);
	for (uint32_t i = 0; i < n; i++)
		if (cpupolicy_page_parse_word(cpupolicy_page_load_word(vmms[i].page, VMM_ASKED_VCPU)).verdict !=
		    CPUPOLICY_VERDICT_ASK)
			bench_fail("the policy page does not say to ask");
	puts("ready");
	fflush(stdout);
	while (!end) {
		bool asked = is_asked(&end);

		ask_all(vmms, n, ask, expected, &seen);
		if (asked) {
			printf("{\"longest\": %" PRIu64 ", \"verdicts\": %" PRIu64 ", \"wrong\": %" PRIu64 "}\n",
			       seen.longest, seen.verdicts, seen.wrong);
			fflush(stdout);
			seen = (struct seen){0};
		}
		bench_pause(REST_NS);
	}
	free(vmms);
	return 0;
}
