/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the test guest's shell cannot do: SCHED_DEADLINE tasks (the kernel's reason to refuse an
 * eject), and a proof that SVE and the PMU work on one given vCPU.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POLICY_DEADLINE 6

/* The C library of this release has no declaration of it, and the kernel's header collides with
 * <sched.h>. */
struct deadline_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static int failed(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 1;
}

static int pin(const char *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(atoi(cpu), &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* Starts COUNT tasks that each reserve 85 % of a CPU; they live until killed. */
static int cmd_deadline(const char *count)
{
	struct deadline_attr attr = {
		.size = sizeof(attr),
		.policy = POLICY_DEADLINE,
		.runtime = 85 * 1000 * 1000,
		.deadline = 100 * 1000 * 1000,
		.period = 100 * 1000 * 1000,
	};

	for (int i = 0; i < atoi(count); i++) {
		int ready[2], error = 0;
		pid_t pid;

		if (pipe(ready) < 0)
			return failed("pipe");
		pid = fork();
		if (pid < 0)
			return failed("fork");
		if (!pid) {
			if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
				error = errno;
			if (write(ready[1], &error, sizeof(error)) < 0 || error)
				_exit(1);
			close(ready[0]);
			close(ready[1]);
			for (;;)
				pause();
		}
		if (read(ready[0], &error, sizeof(error)) != sizeof(error))
			return failed("read");
		close(ready[0]);
		close(ready[1]);
		if (error) {
			errno = error;
			return failed("sched_setattr");
		}
	}
	return 0;
}

/* The vector length, and a sum that only comes out right when all lanes are computed and kept. */
static int cmd_sve(const char *cpu)
{
	uint64_t length, sum;

	if (pin(cpu) < 0)
		return failed("sched_setaffinity");
	asm volatile(".arch_extension sve\n"
		     "rdvl	%0, #1\n"
		     "ptrue	p0.b\n"
		     "mov	z0.b, #3\n"
		     "add	z0.b, z0.b, z0.b\n"
		     "uaddv	d0, p0, z0.b\n"
		     "fmov	%1, d0\n"
		     : "=r"(length), "=r"(sum)
		     :
		     : "v0", "memory");
	if (sum != length * 6) {
		fprintf(stderr, "sum over %llu lanes is %llu\n", (unsigned long long)length, (unsigned long long)sum);
		return 1;
	}
	printf("%llu\n", (unsigned long long)length);
	return 0;
}

/* Cycles counted by the PMU of one vCPU while it was kept busy. */
static int cmd_pmu(const char *cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.exclude_hv = 1,
	};
	volatile unsigned int spin;
	uint64_t cycles;
	int fd;

	if (pin(cpu) < 0)
		return failed("sched_setaffinity");
	fd = (int)syscall(SYS_perf_event_open, &attr, 0, atoi(cpu), -1, 0UL);
	if (fd < 0)
		return failed("perf_event_open");
	for (spin = 0; spin < 1000000; spin++)
		;
	if (read(fd, &cycles, sizeof(cycles)) != sizeof(cycles))
		return failed("read");
	printf("%llu\n", (unsigned long long)cycles);
	return cycles == 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "deadline"))
		return cmd_deadline(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "sve"))
		return cmd_sve(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "pmu"))
		return cmd_pmu(argv[2]);
	fprintf(stderr, "usage: guesttool deadline COUNT | sve CPU | pmu CPU\n");
	return 2;
}
