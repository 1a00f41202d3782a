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
	OPTION_SINCE = 1 << 5,
	OPTION_UNTIL = 1 << 6,
	OPTION_TENANT = 1 << 7,
	OPTION_CSV = 1 << 8,
	OPTION_HOURS = 1 << 9,
	OPTION_INTERVAL = 1 << 10,
	OPTION_POLICY = 1 << 11,
	OPTION_NAME = 1 << 20,
	OPTION_UID = 1 << 21,
	OPTION_MILLIS = 1 << 12,
};

struct options {
	const struct command *command;
	const char *bus;
	unsigned given;        /* enum option_bit */
	uint64_t timeout;      /* microseconds, UINT64_MAX: none */
	uint64_t interval;     /* microseconds */
	uint64_t since, until; /* microseconds since 1970; 0: not given */
	const char *tenant;    /* NULL: not given */
	const char *policy;    /* NULL: not given */
	const char *name;      /* the same */
	uint32_t uid;          /* if given */
	/* arguments; NULL, or 0: not given */
	const char *vm;
	const char *text;
	uint32_t count;
	char **rest;     /* ends with NULL */
	uint32_t millis; /* of CPU time, and `count` is the vCPUs that it takes; 0: vCPUs were asked for */
};

/* What an argument is. */
enum argument {
	ARGUMENT_VM = 1, /* goes to options.vm */
	ARGUMENT_TEXT,   /* options.text */
	ARGUMENT_COUNT,  /* options.count */
	ARGUMENT_REST,   /* all that is left: options.rest */
	ARGUMENT_CPUS,   /* options.count; with a fraction options.millis as well */
};
#define ARGUMENTS_MAX 2

struct command {
	const char *name;
	const char *usage;   /* arguments and options */
	const char *summary; /* one line */
	const char *help;    /* more of them */
	enum argument args[ARGUMENTS_MAX];
	unsigned min_args; /* the rest may be left out */
	unsigned options;
	int (*run)(const struct options *options); /* an enum outcome */
};

/* True: *ret is to be run; false: all is said, and *ret_outcome is the exit status. */
bool options_parse(struct options *ret, const struct command *commands, int argc, char **argv, int *ret_outcome);

/* A count of vCPUs: digits alone. -EINVAL, -ERANGE. */
int options_parse_count(const char *text, uint32_t *ret);
/* CPUs, with a fraction of up to three digits, as 1/1000. -EINVAL, -ERANGE. */
int options_parse_cpus(const char *text, uint32_t *ret_millis);
/* Seconds, with a fraction if need be. -EINVAL, -ERANGE. */
int options_parse_seconds(const char *text, uint64_t *ret_usec);

#endif
