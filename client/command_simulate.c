/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/outcome.h"
#include "client/simulation.h"
#include "client/table.h"
#include "daemon/settings/policy.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct policy *, policy_unref)
DEFINE_CLEANUP(struct simulation *, simulation_free)
DEFINE_CLEANUP(struct table *, table_free)

static double seconds(uint64_t ns)
{
	return (double)ns / NSEC_PER_SEC;
}

static uint64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void print_difference(const struct simulation_difference *d, void *userdata)
{
	uint64_t *n = userdata;

	(*n)++;
	printf("line %u, %.3f s: %s: %s\n", d->line, seconds(d->at), d->vm ? d->vm : "the host", d->what);
}

/* ---- usage ---- */

struct usage_table {
	struct table *table;
	size_t rows;
	int error;
};

static int add_pair(struct table *table, uint64_t is, uint64_t was)
{
	int r = table_addf(table, "%.3f", seconds(is));

	return r < 0 ? r : table_addf(table, "%.3f", seconds(was));
}

static int add_usage(struct table *table, const struct simulation_usage *u)
{
	int r = table_add(table, u->name);

	if (r >= 0)
		r = add_pair(table, u->is_guaranteed_ns, u->was_guaranteed_ns);
	if (r >= 0)
		r = add_pair(table, u->is_burst_ns, u->was_burst_ns);
	if (r >= 0)
		r = table_addf(table, "%.3f", (double)u->is_balance / NSEC_PER_SEC);
	if (r >= 0)
		r = table_addf(table, "%.3f", (double)u->was_balance / NSEC_PER_SEC);
	return r;
}

static void on_usage(const struct simulation_usage *u, void *userdata)
{
	struct usage_table *t = userdata;

	if (t->error < 0 || (u->is_guaranteed_ns == u->was_guaranteed_ns && u->is_burst_ns == u->was_burst_ns &&
			     u->is_balance == u->was_balance))
		return;
	t->rows++;
	t->error = add_usage(t->table, u);
}

static int print_usage(const struct simulation *s)
{
	static const char *const heads[] = {"VM", "GUARANTEED", "WAS", "BURST", "WAS", "CREDIT", "WAS"};
	_cleanup_(table_freep) struct table *table = NULL;
	struct usage_table usage;
	int r = table_new(&table, "lrrrrrr");

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(heads); i++)
		r = table_add(table, heads[i]);
	if (r < 0)
		return r;
	usage = (struct usage_table){.table = table};
	simulation_usage(s, on_usage, &usage);
	if (usage.error < 0 || usage.rows == 0)
		return usage.error;
	printf("\nvCPU-seconds:\n");
	table_print(table, stdout);
	return 0;
}

/* ---- the log ---- */

/* What a daemon that was killed left of its last line is no line. */
static int replay(struct simulation *s, FILE *log, const char *name)
{
	_cleanup_free_ char *line = NULL, *error = NULL;
	size_t room = 0;
	ssize_t n;
	int r;

	while ((n = getline(&line, &room, log)) > 0) {
		if (line[n - 1] != '\n') {
			printf("the last line is not whole: it is left out\n");
			break;
		}
		r = simulation_line(s, line, (size_t)n - 1, name, &error);
		if (r < 0)
			return outcome_print(OUTCOME_FAILED, "%s", error ? error : strerror(-r));
	}
	if (ferror(log))
		return outcome_print(OUTCOME_FAILED, "cannot read %s: %s", name, strerror(errno));
	return OUTCOME_DONE;
}

static void print_sums(const struct simulation_sums *sums, uint64_t differences, uint64_t took)
{
	printf("%s%" PRIu64 " events of %.3f s in %.3f s\n", differences > 0 ? "\n" : "", sums->events,
	       seconds(sums->duration), seconds(took));
	printf("verdicts: %" PRIu64 " compared, %" PRIu64 " differ\n", sums->verdicts, sums->verdicts_differ);
	printf("requests and registrations: %" PRIu64 " were refused, %" PRIu64 " have another answer\n",
	       sums->refusals, sums->answers_differ);
	if (sums->left_out > 0)
		printf("%" PRIu64 " events are left out: here they could not have been\n", sums->left_out);
	if (differences == 0)
		printf("nothing differs\n");
}

static int simulate(const struct options *options, FILE *log, struct policy *policy)
{
	_cleanup_(simulation_freep) struct simulation *s = NULL;
	uint64_t differences = 0, begin = clock_now();
	struct simulation_sums sums;
	int r;

	r = simulation_new(&s, policy, &(struct simulation_ops){.differs = print_difference, .userdata = &differences});
	if (r < 0)
		return outcome_report("simulate", r, NULL);
	r = replay(s, log, options->text);
	if (r != OUTCOME_DONE)
		return r;
	simulation_sums(s, &sums);
	if (sums.lines == 0)
		return outcome_print(OUTCOME_FAILED, "%s: not a recording: it is empty", options->text);
	print_sums(&sums, differences, clock_now() - begin);
	r = print_usage(s);
	if (r < 0)
		return outcome_report("simulate", r, NULL);
	return differences > 0 ? OUTCOME_DIFFERS : OUTCOME_DONE;
}

int command_simulate(const struct options *options)
{
	_cleanup_(policy_unrefp) struct policy *policy = NULL;
	_cleanup_free_ char *error = NULL;
	FILE *log;
	int r;

	if (options->policy) {
		/* for the daemon a directory that is not there is an empty policy; here it is a slip */
		if (access(options->policy, R_OK | X_OK) < 0)
			return outcome_print(OUTCOME_FAILED, "cannot read %s: %s", options->policy, strerror(errno));
		r = policy_load(&policy, options->policy, &error);
		if (r < 0)
			return outcome_print(r == -EINVAL ? OUTCOME_INVALID_POLICY : OUTCOME_FAILED, "%s",
					     error ? error : strerror(-r));
	}
	log = fopen(options->text, "re");
	if (!log)
		return outcome_print(OUTCOME_FAILED, "cannot read %s: %s", options->text, strerror(errno));
	r = simulate(options, log, policy);
	fclose(log);
	return r;
}
