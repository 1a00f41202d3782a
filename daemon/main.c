/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * cpupolicyd: from options to a running loop, and back. The order of start is the order of what must be known before
 * the next may be touched: configuration; the state directory's lock; what the last daemon left; the records; then the
 * socket, and last the bus. The order of the end is that of what must not be lost: nothing new is read; what is under way is
 * on disk and answered; then the sessions are handed over.
 */

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "daemon/bus/bus.h"
#include "daemon/settings/capacity.h"
#include "daemon/settings/config.h"
#include "daemon/host/host.h"
#include "daemon/vmm/listener.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/base/service.h"
#include "daemon/handover/handover_take.h"
#include "daemon/metrics/metrics.h"
#include "daemon/settings/policy.h"
#include "daemon/recording/recorder.h"
#include "daemon/store/store.h"
#include "daemon/base/util.h"

/* docs/man/cpupolicyd.8 lists these */
enum {
	EXIT_USAGE = 2,
	EXIT_CONFIG = 3,
	EXIT_STATE = 4,
};

DEFINE_CLEANUP(struct bus *, bus_free)
DEFINE_CLEANUP(struct capacity *, capacity_free)
DEFINE_CLEANUP(struct config *, config_free)
DEFINE_CLEANUP(struct handover *, handover_free)
DEFINE_CLEANUP(struct handover_writer *, handover_writer_free)
DEFINE_CLEANUP(struct host *, host_free)
DEFINE_CLEANUP(struct listener *, listener_free)
DEFINE_CLEANUP(struct loop *, loop_free)
DEFINE_CLEANUP(struct metrics *, metrics_free)
DEFINE_CLEANUP(struct policy *, policy_unref)
DEFINE_CLEANUP(struct recorder *, recorder_close)
DEFINE_CLEANUP(struct service *, service_free)
DEFINE_CLEANUP(struct store *, store_close)

/* How long the end waits for the disk and the bus. */
#define PATIENCE (2 * NSEC_PER_SEC)

struct options {
	const char *config; /* NULL: the default one, which may be missing */
	const char *socket;
	const char *state_directory;
	const char *policy_directory;
	const char *bus;
	int log_level;
	bool check;
	bool done; /* --help or --version was all */
};

static const char default_config[] = SYSCONFDIR "/cpupolicy/cpupolicyd.conf";

static void print_help(void)
{
	printf("Usage: cpupolicyd [OPTION]...\n"
	       "Decides which vCPUs the virtual machines of this host may use.\n\n"
	       "  --config FILE          read this configuration (default: %s)\n"
	       "  --check-config         check the configuration and the policy, and exit\n"
	       "  --socket PATH          listen for VMMs here\n"
	       "  --state-directory DIR  keep the records here\n"
	       "  --policy-directory DIR read classes, tenants and rules from here\n"
	       "  --bus BUS              offer the API on this bus: system, session, none or an address\n"
	       "  --log-level LEVEL      error, warning, notice, info (default) or debug\n"
	       "  --version              print the version and exit\n"
	       "  --help                 print this and exit\n\n"
	       "--socket, --state-directory, --policy-directory and --bus replace what the configuration says.\n",
	       default_config);
}

static int parse_level(const char *text, int *ret)
{
	static const struct {
		const char *name;
		int level;
	} levels[] = {
		{"error", LOG_ERR}, {"warning", LOG_WARNING}, {"notice", LOG_NOTICE},
		{"info", LOG_INFO}, {"debug", LOG_DEBUG},
	};

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (strcmp(text, levels[i].name) == 0) {
			*ret = levels[i].level;
			return 0;
		}
	return -EINVAL;
}

static int parse_options(int argc, char *argv[], struct options *ret)
{
	enum {
		OPT_CONFIG = 256,
		OPT_CHECK,
		OPT_SOCKET,
		OPT_STATE,
		OPT_POLICY,
		OPT_BUS,
		OPT_LEVEL,
		OPT_VERSION,
		OPT_HELP
	};
	static const struct option longs[] = {
		{"config", required_argument, NULL, OPT_CONFIG},
		{"check-config", no_argument, NULL, OPT_CHECK},
		{"socket", required_argument, NULL, OPT_SOCKET},
		{"state-directory", required_argument, NULL, OPT_STATE},
		{"policy-directory", required_argument, NULL, OPT_POLICY},
		{"bus", required_argument, NULL, OPT_BUS},
		{"log-level", required_argument, NULL, OPT_LEVEL},
		{"version", no_argument, NULL, OPT_VERSION},
		{"help", no_argument, NULL, OPT_HELP},
		{0},
	};
	struct options o = {.log_level = LOG_INFO};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case OPT_CONFIG:
			o.config = optarg;
			break;
		case OPT_CHECK:
			o.check = true;
			break;
		case OPT_SOCKET:
			o.socket = optarg;
			break;
		case OPT_STATE:
			o.state_directory = optarg;
			break;
		case OPT_POLICY:
			o.policy_directory = optarg;
			break;
		case OPT_BUS:
			o.bus = optarg;
			break;
		case OPT_LEVEL:
			if (parse_level(optarg, &o.log_level) < 0) {
				fprintf(stderr, "cpupolicyd: no such log level: %s\n", optarg);
				return -EINVAL;
			}
			break;
		case OPT_VERSION:
			printf("cpupolicyd %s\n", PACKAGE_VERSION);
			o.done = true;
			break;
		case OPT_HELP:
			print_help();
			o.done = true;
			break;
		default: /* getopt has said what */
			fprintf(stderr, "Try 'cpupolicyd --help'.\n");
			return -EINVAL;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "cpupolicyd: unexpected argument: %s\nTry 'cpupolicyd --help'.\n", argv[optind]);
		return -EINVAL;
	}
	*ret = o;
	return 0;
}

/* Every failure at start comes with a sentence, or was for want of memory. */
static int report(int r, const char *error, int status)
{
	log_error("%s", error ? error : strerror(-r));
	return status;
}

static int load_config(const struct options *options, struct config **ret)
{
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_free_ char *error = NULL;
	const struct {
		const char *key, *value;
	} overrides[] = {
		{"socket", options->socket},
		{"state_directory", options->state_directory},
		{"policy_directory", options->policy_directory},
		{"bus", options->bus},
	};
	int r = config_load(&config, options->config ? options->config : default_config, !options->config, &error);

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(overrides); i++)
		if (overrides[i].value)
			r = config_set(config, overrides[i].key, overrides[i].value, &error);
	if (r < 0)
		return report(r, error, EXIT_CONFIG);
	*ret = TAKE(config);
	return 0;
}

static int read_policy(const struct config *config, struct policy **ret)
{
	_cleanup_free_ char *error = NULL;
	int r = policy_load(ret, config->policy_directory, &error);

	if (r >= 0)
		r = policy_resolve(*ret, &error);
	return r < 0 ? report(r, error, EXIT_CONFIG) : 0;
}

static int check(const struct options *options, const struct config *config)
{
	_cleanup_(policy_unrefp) struct policy *policy = NULL;
	int status = read_policy(config, &policy);
	size_t n_files, n_classes;

	if (status != 0)
		return status;
	if (!options->config && access(default_config, F_OK) < 0)
		printf("%s: not there; the built-in defaults are used\n", default_config);
	else
		printf("%s: correct\n", options->config ? options->config : default_config);
	policy_sources(policy, &n_files);
	policy_classes(policy, &n_classes);
	printf("%s: correct, %zu files, %zu classes\n", config->policy_directory, n_files, n_classes);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void prepare_process(void)
{
	struct rlimit limit;

	/* A write to a peer that went away, or beyond a file size limit, is an error to handle where it happens. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	umask(0077);
	/* Several descriptors for a VM, and the usual soft limit is for programs that use select(). */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* What comes from outside the host; and the end of all of it. */
struct daemon {
	struct host *host;
	struct loop *loop;
	struct store *store;
	struct service *service;
	bool left; /* the bus */
};

static void on_cpus(uint32_t cpus, void *userdata)
{
	struct daemon *daemon = userdata;

	if (daemon->host)
		host_capacity_changed(daemon->host);
}

static void on_hangup(void *userdata)
{
	struct daemon *daemon = userdata;

	service_reloading(daemon->service);
	host_reload(daemon->host, getuid(), NULL, NULL);
	service_ready(daemon->service);
}

static void on_recording_ended(int error, const char *why, void *userdata)
{
	struct daemon *daemon = userdata;

	log_error("the recording of events has ended: %s", why ? why : strerror(-error));
	if (daemon->host)
		host_recording_ended(daemon->host);
}

static int open_recorder(struct recorder **ret, struct loop *loop, const struct config *config, struct daemon *daemon)
{
	_cleanup_free_ char *error = NULL;
	int r;

	if (!config->record_directory)
		return 0;
	r = recorder_open(ret, loop, config->record_directory, on_recording_ended, daemon, &error);
	if (r < 0)
		return report(r, error, EXIT_FAILURE);
	log_info("events are recorded in %s", recorder_path(*ret));
	return 0;
}

static int open_loop(struct loop **ret, struct daemon *daemon)
{
	int r = loop_new(ret);

	if (r >= 0)
		r = loop_quit_on_signals(*ret);
	if (r >= 0)
		r = loop_on_hangup(*ret, on_hangup, daemon);
	return r < 0 ? report(r, NULL, EXIT_FAILURE) : 0;
}

static int open_host(struct daemon *daemon, const struct host_setup *setup, struct host **ret)
{
	_cleanup_free_ char *error = NULL;
	int r = host_new(ret, setup);

	if (r < 0)
		return report(r, NULL, EXIT_FAILURE);
	daemon->host = *ret;
	r = host_load(*ret, &error);
	return r < 0 ? report(r, error, EXIT_STATE) : 0;
}

/* VMs do not go without their daemon because nobody can watch it. */
static void open_metrics(struct metrics **ret, struct loop *loop, struct host *host, const struct config *config)
{
	_cleanup_free_ char *error = NULL;
	int r;

	if (strcmp(config->metrics, "none") == 0)
		return;
	r = metrics_new(ret, loop, host, config->metrics, config->metrics_group, &error);
	if (r < 0)
		log_error("%s; there are none", error ? error : strerror(-r));
}

static int open_vmm(const struct host_voucher *voucher, int *ret_fd, void *userdata)
{
	return listener_open(userdata, voucher, ret_fd);
}

/* ---- the service manager ---- */

static void write_status(char *text, size_t size, void *userdata)
{
	struct host *host = userdata;
	uint32_t vms = 0, enabled = 0, possible = 0;
	struct host_view view;
	char capacity[32];

	for (struct host_vm *vm = host_next(host, NULL); vm; vm = host_next(host, vm)) {
		const struct vm *core = host_vm_core(vm);

		vms++;
		if (core->link == VM_STOPPED)
			continue;
		enabled += core->numbers.granted;
		possible += core->possible;
	}
	host_view(host, &view);
	snprintf(capacity, sizeof(capacity), "%u", view.capacity);
	snprintf(text, size, "%u VM%s, %u of %u vCPUs enabled, capacity %s%s%s", vms, vms == 1 ? "" : "s", enabled,
		 possible, view.capacity == FLEET_UNLIMITED ? "unlimited" : capacity, view.frozen ? ", frozen" : "",
		 view.drained ? ", drained" : "");
}

static void on_change(void *userdata)
{
	service_status_changed(userdata);
}

/* Three descriptors are kept for each VM: without room for them a restart costs its VMM a reconnect, and nothing else. */
static void check_room(struct service *service, const struct config *config)
{
	unsigned room = service_keeps_at_most(service);

	if (config->max_vms > SERVICE_SLOTS_MAX)
		log_warning("limits.vms is %u: a restart interrupts those beyond %u, which have to reconnect",
			    config->max_vms, SERVICE_SLOTS_MAX);
	else if (room > 0 && room / HANDOVER_FDS < config->max_vms)
		log_warning("limits.vms is %u and the service manager keeps the connections of %u: for a restart that "
			    "interrupts none, set FileDescriptorStoreMax= in the unit to %u",
			    config->max_vms, room / HANDOVER_FDS, HANDOVER_FDS * config->max_vms + 1);
}

/* ---- the end ---- */

static void on_progress(void *userdata)
{
	struct daemon *daemon = userdata;

	if (daemon->left && store_is_idle(daemon->store))
		loop_quit(daemon->loop);
}

static void on_left(void *userdata)
{
	struct daemon *daemon = userdata;

	daemon->left = true;
	on_progress(daemon);
}

static void on_patience_end(void *userdata)
{
	struct daemon *daemon = userdata;

	log_notice("a write or the bus takes longer than the daemon waits for at its end; who waits for it is not "
		   "answered");
	loop_quit(daemon->loop);
}

/* What is under way is written and answered; what comes now waits for the next daemon. */
static void wind_up(struct daemon *daemon, struct listener *listener, struct bus *bus)
{
	struct loop_timer *patience = NULL;

	if (listener)
		listener_stop(listener);
	if (loop_timer_new(&patience, daemon->loop, on_patience_end, daemon) < 0)
		return;
	loop_timer_set(patience, loop_now(daemon->loop) + PATIENCE);
	store_on_idle(daemon->store, on_progress, daemon);
	daemon->left = !bus;
	if (bus)
		bus_leave(bus, on_left, daemon);
	if (!daemon->left || !store_is_idle(daemon->store))
		loop_run(daemon->loop);
	store_on_idle(daemon->store, NULL, NULL);
	loop_timer_free(patience);
}

static void hand_over(struct daemon *daemon, struct listener *listener, const struct config *config)
{
	_cleanup_(handover_writer_freep) struct handover_writer *writer = NULL;
	char state[HANDOVER_STATE_SIZE];
	_cleanup_close_ int fd = -1;
	size_t n = 0;
	int r;

	if (!service_keeps(daemon->service))
		return;
	r = handover_state(state, config->state_directory);
	if (r >= 0)
		r = handover_writer_new(&writer, state);
	if (r >= 0) {
		n = listener_hand_over(listener, writer);
		r = handover_writer_finish(writer, &fd);
	}
	if (r >= 0) {
		service_keep(daemon->service, SERVICE_HANDOVER, &fd, 1);
		r = service_finish(daemon->service);
	}
	if (r < 0)
		log_warning("the sessions cannot be handed over: %s; after a restart the VMMs reconnect", strerror(-r));
	else
		log_info("the sessions of %zu VMs are handed over", n);
}

static int run(const struct config *config)
{
	_cleanup_free_ char *error = NULL;
	struct daemon daemon = {0};
	/* Ended in reverse. */
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(service_freep) struct service *service = NULL;
	_cleanup_(policy_unrefp) struct policy *policy = NULL;
	_cleanup_(capacity_freep) struct capacity *capacity = NULL;
	_cleanup_(store_closep) struct store *store = NULL;
	_cleanup_(recorder_closep) struct recorder *recorder = NULL;
	_cleanup_(handover_freep) struct handover *handover = NULL;
	_cleanup_(host_freep) struct host *host = NULL;
	_cleanup_(listener_freep) struct listener *listener = NULL;
	_cleanup_(bus_freep) struct bus *bus = NULL;
	_cleanup_(metrics_freep) struct metrics *metrics = NULL;
	int r, status;

	status = read_policy(config, &policy);
	if (status == 0)
		status = open_loop(&loop, &daemon);
	if (status != 0)
		return status;
	r = service_new(&service, loop);
	if (r < 0)
		return report(r, NULL, EXIT_FAILURE);
	daemon.loop = loop;
	daemon.service = service;
	r = capacity_new(&capacity, loop, "", on_cpus, &daemon);
	if (r < 0)
		return report(r, NULL, EXIT_FAILURE);
	r = store_open(&store, loop, config->state_directory, &error);
	if (r < 0)
		return report(r, error, EXIT_STATE);
	daemon.store = store;
	handover_take(&handover, service, config->state_directory);
	status = open_recorder(&recorder, loop, config, &daemon);
	if (status == 0)
		status = open_host(&daemon,
				   &(struct host_setup){
					   .loop = loop,
					   .store = store,
					   .config = config,
					   .policy = policy,
					   .capacity = capacity,
					   .recorder = recorder,
					   .handover = handover,
				   },
				   &host);
	if (status != 0)
		return status;
	r = listener_new(&listener, loop, host, config, service, &error);
	if (r < 0)
		return report(r, error, EXIT_FAILURE);
	if (handover)
		log_info("went on with the sessions of %zu VMs", listener_take_over(listener, handover));
	if (strcmp(config->bus, "none") != 0) {
		r = bus_new(&bus, loop, host, config->bus, open_vmm, listener, &error);
		if (r < 0)
			return report(r, error, EXIT_FAILURE);
	}
	open_metrics(&metrics, loop, host, config);
	log_info("cpupolicyd %s: %zu VMs on record in %s, listening on %s", PACKAGE_VERSION, host_count(host),
		 config->state_directory, config->socket);
	check_room(service, config);
	host_on_change(host, on_change, service);
	service_set_status(service, write_status, host);
	service_ready(service);
	r = loop_run(loop);
	service_stopping(service);
	if (r < 0)
		return report(r, NULL, EXIT_FAILURE);
	wind_up(&daemon, listener, bus);
	hand_over(&daemon, listener, config);
	return EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
	_cleanup_(config_freep) struct config *config = NULL;
	struct options options;
	int status;

	if (parse_options(argc, argv, &options) < 0)
		return EXIT_USAGE;
	if (options.done)
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	log_open(options.log_level, options.check);
	status = load_config(&options, &config);
	if (status != 0)
		return status;
	if (options.check)
		return check(&options, config);
	prepare_process();
	return run(config);
}
