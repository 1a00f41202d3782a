/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_OPTIONS_H
#define CPUCTL_OPTIONS_H

/* The command line: what may be said, and what was. */

#include <stdbool.h>
#include <stdint.h>

enum option_bit {
	OPTION_JSON = 1 << 0,
	OPTION_NAMES = 1 << 1,
	OPTION_ONLINE = 1 << 2,
	OPTION_NO_WAIT = 1 << 3,
	OPTION_TIMEOUT = 1 << 4,
};

struct options {
	const struct command *command;
	const char *bus;
	unsigned given;   /* enum option_bit */
	uint64_t timeout; /* microseconds, UINT64_MAX: none */
	const char *vm;   /* NULL: not given */
	uint32_t count;
};

struct command {
	const char *name;
	const char *usage;   /* arguments and options */
	const char *summary; /* one line */
	const char *help;    /* more of them */
	unsigned min_args, max_args;
	unsigned options;
	int (*run)(const struct options *options); /* an enum outcome */
};

/* True: *ret is to be run; false: all is said, and *ret_outcome is the exit status. */
bool options_parse(struct options *ret, const struct command *commands, int argc, char **argv, int *ret_outcome);

/* A count of vCPUs: digits alone. -EINVAL, -ERANGE. */
int options_parse_count(const char *text, uint32_t *ret);
/* Seconds, with a fraction if need be. -EINVAL, -ERANGE. */
int options_parse_seconds(const char *text, uint64_t *ret_usec);

#endif
