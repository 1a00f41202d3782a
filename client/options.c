/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/outcome.h"
#include "client/when.h"
#include "daemon/base/util.h"
#include "daemon/core/vm.h"

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
	{"since", required_argument, NULL, OPT_FIRST_BIT + OPTION_SINCE},
	{"until", required_argument, NULL, OPT_FIRST_BIT + OPTION_UNTIL},
	{"tenant", required_argument, NULL, OPT_FIRST_BIT + OPTION_TENANT},
	{"csv", no_argument, NULL, OPT_FIRST_BIT + OPTION_CSV},
	{"hours", no_argument, NULL, OPT_FIRST_BIT + OPTION_HOURS},
	{"interval", required_argument, NULL, OPT_FIRST_BIT + OPTION_INTERVAL},
	{"policy", required_argument, NULL, OPT_FIRST_BIT + OPTION_POLICY},
	{"name", required_argument, NULL, OPT_FIRST_BIT + OPTION_NAME},
	{"uid", required_argument, NULL, OPT_FIRST_BIT + OPTION_UID},
	{"millis", required_argument, NULL, OPT_FIRST_BIT + OPTION_MILLIS},
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
		printf("  %-9s %s\n", c->name, c->summary);
	printf("\nOptions:\n" BUS_HELP "\n"
	       "\"cpuctl COMMAND --help\" says more; cpuctl(1) has all, exit statuses included.\n");
}

/* What is not for people is left out. */
static const struct {
	enum option_bit bit;
	const char *text;
} option_help[] = {
	{OPTION_MILLIS, "--millis N       so much CPU time, in 1/1000 CPUs, instead of a count"},
	{OPTION_ONLINE, "--online         wait until added vCPUs run: the guest's CPU_ON succeeded"},
	{OPTION_NO_WAIT, "--no-wait        do not wait for the guest"},
	{OPTION_TIMEOUT, "--timeout S      wait no longer than S seconds; the job goes on"},
	{OPTION_SINCE, "--since TIME     what began then or later: 2026-11, 2026-11-20, \"2026-11-20 18:00\"\n"
		       "                   (with Z: UTC), @SECONDS, -90m, -12h, -7d, today, yesterday"},
	{OPTION_UNTIL, "--until TIME     and before that"},
	{OPTION_TENANT, "--tenant NAME    the tenant"},
	{OPTION_HOURS, "--hours          a line for each hour"},
	{OPTION_INTERVAL, "--interval S     show what has changed every S seconds (1)"},
	{OPTION_POLICY, "--policy DIR     classes, tenants, rules and capacity from here instead"},
	{OPTION_NAME, "--name NAME      the name that it has to register under"},
	{OPTION_UID, "--uid UID        the user that it runs as; default: yours"},
	{OPTION_CSV, "--csv            print CSV instead of text"},
	{OPTION_JSON, "--json           print JSON instead of text"},
};

static void print_command_help(const struct command *c)
{
	printf("Usage: cpuctl %s%s%s\n\n%s\n\nOptions:\n", c->name, *c->usage ? " " : "", c->usage, c->help);
	for (size_t i = 0; i < ARRAY_SIZE(option_help); i++)
		if (c->options & option_help[i].bit)
			printf("  %s\n", option_help[i].text);
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

int options_parse_cpus(const char *text, uint32_t *ret_millis)
{
	const char *dot = strchr(text, '.');
	size_t digits = dot ? strspn(dot + 1, "0123456789") : 0, whole = dot ? (size_t)(dot - text) : 0;
	uint32_t millis = 0, unit = 100;

	if (whole == 0 || whole != strspn(text, "0123456789") || digits == 0 || digits > 3 || dot[1 + digits])
		return -EINVAL;
	if (whole > 6)
		return -ERANGE;
	for (const char *p = text; p < dot; p++)
		millis = 10 * millis + 1000 * (uint32_t)(*p - '0');
	for (const char *p = dot + 1; *p; p++, unit /= 10)
		millis += unit * (uint32_t)(*p - '0');
	*ret_millis = millis;
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

/* A value that `parse` takes; false: it has been said what is wrong. */
static bool take_value(int (*parse)(const char *text, uint64_t *ret), unsigned bit, const char *what, uint64_t *ret)
{
	if (parse(optarg, ret) >= 0)
		return true;
	outcome_print(OUTCOME_FAILED, "--%s: \"%s\" is not %s", option_name(bit), optarg, what);
	return false;
}

static void set_millis(struct options *o, uint32_t millis)
{
	o->millis = millis;
	o->count = vm_millis_count(millis);
}

static bool take_millis(struct options *o)
{
	uint32_t millis;

	if (options_parse_count(optarg, &millis) < 0 || millis == 0) {
		outcome_print(OUTCOME_FAILED, "--millis: \"%s\" is not a number of 1/1000 CPUs", optarg);
		return false;
	}
	set_millis(o, millis);
	return true;
}

static bool take_given(struct options *o, unsigned bit)
{
	o->given |= bit;
	switch (bit) {
	case OPTION_TIMEOUT:
		return take_value(options_parse_seconds, bit, "a number of seconds", &o->timeout);
	case OPTION_INTERVAL:
		return take_value(options_parse_seconds, bit, "a number of seconds", &o->interval);
	case OPTION_SINCE:
		return take_value(when_parse, bit, "a time", &o->since);
	case OPTION_UNTIL:
		return take_value(when_parse, bit, "a time", &o->until);
	case OPTION_TENANT:
		o->tenant = optarg;
		return true;
	case OPTION_POLICY:
		o->policy = optarg;
		return true;
	case OPTION_NAME:
		o->name = optarg;
		return true;
	case OPTION_UID:
		if (options_parse_count(optarg, &o->uid) >= 0)
			return true;
		outcome_print(OUTCOME_FAILED, "--uid: \"%s\" is not the number of a user", optarg);
		return false;
	case OPTION_MILLIS:
		return take_millis(o);
	default:
		return true;
	}
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
	case '?':
	case ':':
		return refuse(ret_outcome, NULL); /* getopt has said what is wrong */
	default:
		break;
	}
	return take_given(o, (unsigned)(opt - OPT_FIRST_BIT)) || refuse(ret_outcome, NULL);
}

/* A count, or CPUs with a fraction: the latter ask for CPU time, if it is whole or not. */
static bool take_cpus(struct options *o, const char *text)
{
	uint32_t millis;

	if (o->given & OPTION_MILLIS) {
		outcome_print(OUTCOME_FAILED, "--millis and a count exclude each other");
		return false;
	}
	o->text = text;
	if (options_parse_count(text, &o->count) >= 0)
		return true;
	if (options_parse_cpus(text, &millis) >= 0 && millis > 0) {
		set_millis(o, millis);
		return true;
	}
	outcome_print(OUTCOME_FAILED,
		      "\"%s\" is not a number of CPUs: expected a whole one, or up to three digits after a dot", text);
	return false;
}

static bool take_argument(struct options *o, enum argument argument, const char *text)
{
	switch (argument) {
	case ARGUMENT_VM:
		o->vm = text;
		return true;
	case ARGUMENT_TEXT:
		o->text = text;
		return true;
	case ARGUMENT_COUNT:
		o->text = text;
		break;
	case ARGUMENT_REST:
		return true;
	case ARGUMENT_CPUS:
		return take_cpus(o, text);
	}
	if (options_parse_count(text, &o->count) >= 0)
		return true;
	outcome_print(OUTCOME_FAILED, "\"%s\" is not a count of vCPUs: a whole number is expected", text);
	return false;
}

static unsigned max_args(const struct command *c)
{
	unsigned n = 0;

	while (n < ARGUMENTS_MAX && c->args[n])
		n++;
	return n;
}

static bool exclude(const struct options *o, unsigned one, unsigned others, int *ret_outcome)
{
	unsigned other = o->given & others;

	if (!(o->given & one) || !other)
		return true;
	outcome_print(OUTCOME_FAILED, "--%s and --%s exclude each other", option_name(one),
		      option_name(other & -other));
	return refuse(ret_outcome, o->command);
}

static bool take_arguments(struct options *o, char **args, unsigned n, int *ret_outcome)
{
	const struct command *c = o->command;
	unsigned foreign = o->given & ~c->options;
	bool rest = max_args(c) > 0 && c->args[max_args(c) - 1] == ARGUMENT_REST;

	if (foreign) {
		outcome_print(OUTCOME_FAILED, "--%s is not an option of \"%s\"", option_name(foreign & -foreign),
			      c->name);
		return refuse(ret_outcome, c);
	}
	if (n < c->min_args || (n > max_args(c) && !rest)) {
		outcome_print(OUTCOME_FAILED, "\"%s\" takes %s", c->name, *c->usage ? c->usage : "no arguments");
		return refuse(ret_outcome, c);
	}
	if (rest && n >= max_args(c))
		o->rest = args + max_args(c) - 1;
	for (unsigned i = 0; i < n && i < max_args(c); i++)
		if (!take_argument(o, c->args[i], args[i]))
			return refuse(ret_outcome, c);
	return exclude(o, OPTION_NO_WAIT, OPTION_ONLINE | OPTION_TIMEOUT, ret_outcome) &&
	       exclude(o, OPTION_CSV, OPTION_JSON, ret_outcome);
}

bool options_parse(struct options *ret, const struct command *commands, int argc, char **argv, int *ret_outcome)
{
	const char *from_environment = getenv("CPUPOLICY_BUS");
	bool help = false;
	int opt;

	*ret = (struct options){.bus = from_environment && *from_environment ? from_environment : "system",
				.timeout = UINT64_MAX,
				.interval = 1000000};
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
