/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The host and what its policy defines. */

#include "client/commands.h"

#include <inttypes.h>
#include <stdio.h>

#include "client/connection.h"
#include "client/host_info.h"
#include "client/money.h"
#include "client/outcome.h"
#include "client/output.h"
#include "client/table.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)
DEFINE_CLEANUP(struct table *, table_free)

/* One way of printing for people, one for programs, one for completion. */
struct face {
	const char *what;
	int (*text)(const struct host_info *info);
	json_t *(*json)(const struct host_info *info);
	void (*names)(const struct host_info *info);
};

static int show(const struct options *options, const struct face *face)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	struct host_info info;
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = host_info_get(c, &info, &error);
	if (r < 0)
		return outcome_report(face->what, r, &error);
	r = OUTCOME_DONE;
	if (options->given & OPTION_NAMES)
		face->names(&info);
	else if (options->given & OPTION_JSON)
		r = output_json(face->json(&info));
	else
		r = face->text(&info);
	if (r < 0)
		r = outcome_report(face->what, r, NULL);
	host_info_clear(&info);
	return r;
}

static int add_head(struct table *table, const char *const *head, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = table_add(table, head[i]);
	return r;
}

static int add_numbers(struct table *table, const uint64_t *numbers, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = table_addf(table, "%" PRIu64, numbers[i]);
	return r;
}

static int add_limit(struct table *table, uint32_t limit)
{
	return limit == HOST_INFO_UNLIMITED ? table_add(table, "-") : table_addf(table, "%" PRIu32, limit);
}

/* ---- the host ---- */

static void print_mode(const char *name, bool on, uint32_t uid, const char *meaning)
{
	if (on)
		printf("%-11s by %s: %s\n", name, output_user(uid), meaning);
}

static int print_host(const struct host_info *info)
{
	const struct host_sums *s = &info->sums;

	printf("VMs         %" PRIu32 ", %" PRIu32 " of them connected\n", info->vms, info->connected);
	if (info->capacity == HOST_INFO_UNLIMITED)
		printf("Capacity    not limited");
	else
		printf("Capacity    %" PRIu32 " vCPUs, %" PRIu64 " free", info->capacity,
		       info->capacity > s->occupied ? info->capacity - s->occupied : 0);
	if (info->cpus > 0)
		printf(" (%" PRIu32 " CPUs for VMs)", info->cpus);
	printf("\nReserved    %" PRIu64 " guaranteed to running VMs\n", s->reserved);
	printf("Allowed     %" PRIu64 ": %" PRIu64 " guaranteed, %" PRIu64 " burst\n", s->allowed, s->guaranteed,
	       s->allowed - s->guaranteed);
	printf("Held        %" PRIu64 ", of which %" PRIu64 " overdue\n", s->held, s->overdue);
	if (info->observe)
		puts("Observed    nothing is denied, only recorded");
	print_mode("Frozen", info->frozen, info->frozen_uid, "no changes");
	print_mode("Drained", info->drained, info->drained_uid, "no new VMs, no burst");
	return OUTCOME_DONE;
}

int command_host(const struct options *options)
{
	static const struct face face = {
		.what = "cannot show the host", .text = print_host, .json = host_info_json, .names = NULL};

	return show(options, &face);
}

/* ---- classes ---- */

static int add_price(struct table *table, const struct host_class *c, uint64_t micro)
{
	char text[MONEY_TEXT_SIZE];

	return table_add(table, c->priced ? money_format(micro, text) : "-");
}

static int add_class(struct table *table, const struct host_class *c)
{
	int r;

	r = table_add(table, c->name);
	if (r >= 0)
		r = add_numbers(table, (const uint64_t[]){c->guaranteed, c->limit, c->priority}, 3);
	if (r >= 0 && !c->metered)
		r = add_head(table, (const char *const[]){"-", "-", "-"}, 3);
	else if (r >= 0)
		r = add_numbers(table,
				(const uint64_t[]){(uint64_t)c->cap / NSEC_PER_SEC, (uint64_t)c->initial / NSEC_PER_SEC,
						   (uint64_t)c->resume / NSEC_PER_SEC},
				3);
	if (r >= 0)
		r = add_price(table, c, c->price_guaranteed);
	if (r >= 0)
		r = add_price(table, c, c->price_burst);
	if (r >= 0)
		r = table_add(table, c->observe ? "observed" : "");
	return r;
}

static int print_classes(const struct host_info *info)
{
	static const char *const head[] = {"NAME",    "GUARANTEED", "LIMIT", "PRIORITY", "CREDIT S",
					   "INITIAL", "RESUME",     "PRICE", "BURST",    ""};
	_cleanup_(table_freep) struct table *table = NULL;
	int r;

	r = table_new(&table, "lrrrrrrrrl");
	if (r >= 0)
		r = add_head(table, head, ARRAY_SIZE(head));
	for (size_t i = 0; i < info->n_classes && r >= 0; i++)
		r = add_class(table, &info->classes[i]);
	if (r < 0)
		return r;
	table_print(table, stdout);
	return OUTCOME_DONE;
}

static void print_class_names(const struct host_info *info)
{
	for (size_t i = 0; i < info->n_classes; i++)
		puts(info->classes[i].name);
}

int command_classes(const struct options *options)
{
	static const struct face face = {.what = "cannot list the classes",
					 .text = print_classes,
					 .json = host_info_classes_json,
					 .names = print_class_names};

	return show(options, &face);
}

/* ---- tenants ---- */

static int add_tenant(struct table *table, const struct host_tenant *t)
{
	const struct host_sums *s = &t->sums;
	int r;

	r = table_add(table, t->name);
	if (r >= 0)
		r = add_limit(table, t->quota);
	if (r >= 0)
		r = add_numbers(
			table,
			(const uint64_t[]){s->reserved, s->guaranteed, s->allowed - s->guaranteed, s->held, s->overdue},
			5);
	return r;
}

static int print_tenants(const struct host_info *info)
{
	static const char *const head[] = {"NAME", "QUOTA", "RESERVED", "GUARANTEED", "BURST", "HELD", "OVERDUE"};
	_cleanup_(table_freep) struct table *table = NULL;
	int r;

	r = table_new(&table, "lrrrrrr");
	if (r >= 0)
		r = add_head(table, head, ARRAY_SIZE(head));
	for (size_t i = 0; i < info->n_tenants && r >= 0; i++)
		r = add_tenant(table, &info->tenants[i]);
	if (r < 0)
		return r;
	table_print(table, stdout);
	return OUTCOME_DONE;
}

static void print_tenant_names(const struct host_info *info)
{
	for (size_t i = 0; i < info->n_tenants; i++)
		puts(info->tenants[i].name);
}

int command_tenants(const struct options *options)
{
	static const struct face face = {.what = "cannot list the tenants",
					 .text = print_tenants,
					 .json = host_info_tenants_json,
					 .names = print_tenant_names};

	return show(options, &face);
}
