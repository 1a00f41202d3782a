/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * hold DAEMON-SOCKET VMS VCPUS
 *
 * Registers so many VMs and keeps them connected and silent until standard input ends. "ready" when all are registered.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

int main(int argc, char **argv)
{
	struct vmm *vmms;
	uint32_t n;
	char c;

	if (argc != 4)
		bench_fail("usage: hold DAEMON-SOCKET VMS VCPUS");
	n = bench_number(argv[2], 1);
	vmms = calloc(n, sizeof(*vmms));
	if (!vmms)
		bench_fail("out of memory");
	vmm_start(vmms, n, argv[1], "hold", bench_number(argv[3], 4), 4);
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	free(vmms);
	return 0;
}
