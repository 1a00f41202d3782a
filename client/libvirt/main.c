/* SPDX-License-Identifier: GPL-2.0-or-later */

/* cpupolicy-libvirt: libvirt's domains for cpupolicyd. From options to a running loop. */

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "client/libvirt/bridge.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/base/util.h"

enum { EXIT_USAGE = 2 };

struct options {
	struct bridge_setup setup;
	int log_level;
	bool done; /* --help or --version was all */
};

static void print_help(void)
{
	printf("Usage: cpupolicy-libvirt [OPTION]...\n"
	       "Tells cpupolicyd of libvirt's domains, and does for it what libvirt can.\n\n"
	       "  --connect URI      libvirt's (default: qemu:///system)\n"
	       "  --bus BUS          where cpupolicyd is: system (default), session or an address\n"
	       "  --socket PATH      cpupolicyd's socket for VMMs (default: /run/cpupolicy/vmm.sock)\n"
	       "  --log-level LEVEL  error, warning, info (default) or debug\n"
	       "  --version          print the version and exit\n"
	       "  --help             print this and exit\n");
}

static bool parse_level(const char *text, int *ret)
{
	static const struct {
		const char *name;
		int level;
	} levels[] = {{"error", LOG_ERR}, {"warning", LOG_WARNING}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}};

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (strcmp(text, levels[i].name) == 0) {
			*ret = levels[i].level;
			return true;
		}
	fprintf(stderr, "cpupolicy-libvirt: no such log level: %s\n", text);
	return false;
}

static bool parse_options(int argc, char *argv[], struct options *o)
{
	static const struct option longs[] = {
		{"connect", required_argument, NULL, 'c'},
		{"bus", required_argument, NULL, 'b'},
		{"socket", required_argument, NULL, 's'},
		{"log-level", required_argument, NULL, 'l'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->setup.uri = optarg;
			break;
		case 'b':
			o->setup.bus = optarg;
			break;
		case 's':
			o->setup.socket = optarg;
			break;
		case 'l':
			if (!parse_level(optarg, &o->log_level))
				return false;
			break;
		case 'v':
			printf("cpupolicy-libvirt %s\n", PACKAGE_VERSION);
			o->done = true;
			break;
		case 'h':
			print_help();
			o->done = true;
			break;
		default: /* getopt has said what */
			fprintf(stderr, "Try 'cpupolicy-libvirt --help'.\n");
			return false;
		}
	}
	if (optind < argc)
		fprintf(stderr, "cpupolicy-libvirt: unexpected argument: %s\n", argv[optind]);
	return optind == argc;
}

DEFINE_CLEANUP(struct bridge *, bridge_free)
DEFINE_CLEANUP(struct loop *, loop_free)

static int run(struct bridge_setup *setup)
{
	_cleanup_free_ char *error = NULL;
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(bridge_freep) struct bridge *bridge = NULL;
	int r = loop_new(&loop);

	if (r >= 0)
		r = loop_quit_on_signals(loop);
	setup->loop = loop;
	if (r >= 0)
		r = bridge_new(&bridge, setup, &error);
	if (r >= 0) {
		log_info("cpupolicy-libvirt %s", PACKAGE_VERSION);
		sd_notify(0, "READY=1");
		r = loop_run(loop);
		sd_notify(0, "STOPPING=1");
	}
	if (r < 0)
		log_error("%s", error ? error : strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
	struct options options = {
		.setup = {.uri = "qemu:///system", .bus = "system", .socket = "/run/cpupolicy/vmm.sock"},
		.log_level = LOG_INFO,
	};
	int status;

	if (!parse_options(argc, argv, &options))
		return EXIT_USAGE;
	if (options.done)
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	log_open(options.log_level, false);
	signal(SIGPIPE, SIG_IGN);
	status = run(&options.setup);
	/* not exit(): a thread may be in a call of libvirt's, and uses what exit() would take down */
	_exit(status);
}
