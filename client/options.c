/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/outcome.h"
#include "daemon/util.h"

enum { OPT_HELP = 256, OPT_VERSION, OPT_BUS, OPT_SYSTEM, OPT_SESSION, OPT_FIRST_BIT };

static const struct option longopts[] = {
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{"bus", required_argument, NULL, OPT_BUS},
	{"address", required_argument, NULL, OPT_BUS},
	{"system", no_argument, NULL, OPT_SYSTEM},
	{"session", no_argument, NULL, OPT_SESSION},
	{"json", no_argument, NULL, OPT_FIRST_BIT + OPTION_JSON},
	{"names", no_argument, NULL, OPT_FIRST_BIT + OPTION_NAMES},
	{"online", no_argument, NULL, OPT_FIRST_BIT + OPTION_ONLINE},
	{"no-wait", no_argument, NULL, OPT_FIRST_BIT + OPTION_NO_WAIT},
	{"timeout", required_argument, NULL, OPT_FIRST_BIT + OPTION_TIMEOUT},
	{0},
};

#define BUS_HELP                                                                                                       \
	"  --system         the system bus (default)\n"                                                                \
	"  --session        the session bus\n"                                                                         \
	"  --address ADDR   the bus at this D-Bus address; --bus is the same, and also\n"                              \
	"                   takes \"system\" and \"session\". Default: $CPUPOLICY_BUS\n"                               \
	"  --help           this text; after a command, about the command\n"                                           \
	"  --version        which version this is\n"

/* ---- help ---- */

static void print_help(const struct command *commands)
{
	printf("Usage: cpuctl [--help] [--version] [BUS] COMMAND ...\n\n"
	       "Shows and changes how many vCPUs running VMs may use, by way of cpupolicyd.\n\n"
	       "Commands:\n");
	for (const struct command *c = commands; c->name; c++)
		printf("  %-8s %s\n", c->name, c->summary);
	printf("\nOptions:\n" BUS_HELP "\n"
	       "\"cpuctl COMMAND --help\" says more; cpuctl(1) has all, exit statuses included.\n");
}

static void print_command_help(const struct command *c)
{
	printf("Usage: cpuctl %s%s%s\n\n%s\n\nOptions:\n", c->name, *c->usage ? " " : "", c->usage, c->help);
	if (c->options & OPTION_ONLINE)
		printf("  --online         wait until added vCPUs run: the guest's CPU_ON succeeded\n");
	if (c->options & OPTION_NO_WAIT)
		printf("  --no-wait        do not wait for the guest\n");
	if (c->options & OPTION_TIMEOUT)
		printf("  --timeout S      wait no longer than S seconds; the job goes on\n");
	if (c->options & OPTION_JSON)
		printf("  --json           print JSON instead of text\n");
	printf(BUS_HELP);
}

static bool refuse(int *ret_outcome, const struct command *c)
{
	fprintf(stderr, "\"cpuctl %s%s--help\" says what may be given.\n", c ? c->name : "", c ? " " : "");
	*ret_outcome = OUTCOME_FAILED;
	return false;
}

/* ---- values ---- */

int options_parse_count(const char *text, uint32_t *ret)
{
	unsigned long n;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE || n > UINT32_MAX)
		return -ERANGE;
	*ret = (uint32_t)n;
	return 0;
}

int options_parse_seconds(const char *text, uint64_t *ret_usec)
{
	uint64_t usec = 0, unit = 1000000;
	const char *p = text;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		usec = usec * 10 + (uint64_t)(*p - '0') * 1000000;
		/* a hundred years */
		if (usec > UINT64_C(3155760000) * 1000000)
			return -ERANGE;
	}
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++) {
			unit /= 10;
			usec += (uint64_t)(*p - '0') * unit;
		}
	if (*p || p[-1] == '.')
		return -EINVAL;
	*ret_usec = usec;
	return 0;
}

/* ---- parsing ---- */

static const struct command *find_command(const struct command *commands, const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static const char *option_name(unsigned bit)
{
	for (const struct option *o = longopts; o->name; o++)
		if (o->val == (int)(OPT_FIRST_BIT + bit))
			return o->name;
	return "?";
}

static bool take_option(struct options *o, int opt, int *ret_outcome)
{
	switch (opt) {
	case OPT_BUS:
		o->bus = optarg;
		return true;
	case OPT_SYSTEM:
		o->bus = "system";
		return true;
	case OPT_SESSION:
		o->bus = "session";
		return true;
	case OPT_FIRST_BIT + OPTION_TIMEOUT:
		if (options_parse_seconds(optarg, &o->timeout) < 0) {
			outcome_print(OUTCOME_FAILED, "--timeout: \"%s\" is not a number of seconds", optarg);
			return refuse(ret_outcome, NULL);
		}
		break;
	case '?':
	case ':':
		return refuse(ret_outcome, NULL); /* getopt has said what is wrong */
	default:
		break;
	}
	o->given |= (unsigned)(opt - OPT_FIRST_BIT);
	return true;
}

static bool take_arguments(struct options *o, char **args, unsigned n, int *ret_outcome)
{
	const struct command *c = o->command;
	unsigned foreign = o->given & ~c->options;

	if (foreign) {
		outcome_print(OUTCOME_FAILED, "--%s is not an option of \"%s\"", option_name(foreign & -foreign),
			      c->name);
		return refuse(ret_outcome, c);
	}
	if (n < c->min_args || n > c->max_args) {
		outcome_print(OUTCOME_FAILED, "\"%s\" takes %s", c->name, *c->usage ? c->usage : "no arguments");
		return refuse(ret_outcome, c);
	}
	o->vm = n > 0 ? args[0] : NULL;
	if (n > 1 && options_parse_count(args[1], &o->count) < 0) {
		outcome_print(OUTCOME_FAILED, "\"%s\" is not a count of vCPUs: a whole number is expected", args[1]);
		return refuse(ret_outcome, c);
	}
	if ((o->given & OPTION_NO_WAIT) && o->given & (OPTION_ONLINE | OPTION_TIMEOUT)) {
		outcome_print(OUTCOME_FAILED, "--no-wait and --%s exclude each other",
			      o->given & OPTION_ONLINE ? "online" : "timeout");
		return refuse(ret_outcome, c);
	}
	return true;
}

bool options_parse(struct options *ret, const struct command *commands, int argc, char **argv, int *ret_outcome)
{
	const char *from_environment = getenv("CPUPOLICY_BUS");
	bool help = false;
	int opt;

	*ret = (struct options){.bus = from_environment && *from_environment ? from_environment : "system",
				.timeout = UINT64_MAX};
	*ret_outcome = OUTCOME_DONE;
	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (opt == OPT_VERSION) {
			printf("cpuctl %s\n", PACKAGE_VERSION);
			return false;
		}
		if (opt == OPT_HELP)
			help = true;
		else if (!take_option(ret, opt, ret_outcome))
			return false;
	}
	if (optind < argc) {
		ret->command = find_command(commands, argv[optind]);
		if (!ret->command) {
			outcome_print(OUTCOME_FAILED, "there is no command \"%s\"", argv[optind]);
			return refuse(ret_outcome, NULL);
		}
	}
	if (help) {
		if (ret->command)
			print_command_help(ret->command);
		else
			print_help(commands);
		return false;
	}
	if (!ret->command) {
		outcome_print(OUTCOME_FAILED, "a command is expected");
		return refuse(ret_outcome, NULL);
	}
	return take_arguments(ret, argv + optind + 1, (unsigned)(argc - optind - 1), ret_outcome);
}
