/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_usage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/bus/bus_error.h"
#include "daemon/core/uuid.h"
#include "daemon/base/log.h"
#include "daemon/base/util.h"

/* Whoever may read may ask: what is under way at once, and how much of it, is our memory. A message of twice that size
 * is more than a message bus takes, too. */
#define QUERIES_MAX 8
#define BYTES_MAX   ((size_t)16 << 20)
/* Of a row in a message, beside its texts: five numbers, and lengths, ends and alignment of four texts. */
#define ROW_BYTES 96u

struct query {
	LIST_ENTRY(query) entry;
	struct bus_usage *usage;
	sd_bus_message *call; /* NULL: the answer goes nowhere */
	sd_bus_message *reply;
	size_t bytes; /* of the reply, about */
};

struct bus_usage {
	LIST_HEAD(, query) list;
	unsigned n;
	struct host *host;
	struct bus_link *link;
};

static void query_free(struct query *q)
{
	LIST_REMOVE(q, entry);
	q->usage->n--;
	sd_bus_message_unref(q->reply);
	sd_bus_message_unref(q->call);
	free(q);
}

/* ---- the answer ---- */

static void sent(struct query *q, int r)
{
	if (r < 0 && r != -ENOTCONN && r != -ECONNRESET)
		log_warning("D-Bus: cannot reply: %s", strerror(-r));
	bus_link_touch(q->usage->link);
	query_free(q);
}

static void fail(struct query *q, const char *name, const char *why)
{
	sent(q, sd_bus_reply_method_errorf(q->call, name, "%s", why));
}

static int append_row(struct query *q, const struct store_usage_row *row)
{
	const char *tenant = row->tenant ? row->tenant : "";
	char uuid[UUID_TEXT_SIZE];

	q->bytes += ROW_BYTES + sizeof(uuid) + strlen(row->name) + strlen(tenant) + strlen(row->class);
	if (q->bytes > BYTES_MAX)
		return -EMSGSIZE;
	uuid_format(uuid, row->uuid);
	/* a total's number says how many rows it is of */
	return sd_bus_message_append(q->reply, BUS_USAGE_ROW, uuid, row->name, tenant, row->class,
				     row->row.begin / 1000, row->row.end / 1000, row->row.guaranteed_ns,
				     row->row.burst_ns, row->row.number);
}

static int finish(struct query *q)
{
	int r;

	r = sd_bus_message_close_container(q->reply);
	return r < 0 ? r : sd_bus_message_send(q->reply);
}

static int on_rows(const struct store_usage_row *rows, size_t n, bool last, int error, const char *why, void *userdata)
{
	struct query *q = userdata;
	int r = 0;

	if (!q->call) {
		query_free(q);
		return -ECANCELED;
	}
	if (error < 0) {
		fail(q, bus_error_name(error == -ENOMEM ? HOST_NO_MEMORY : HOST_STORAGE), why);
		return -ECANCELED;
	}
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = append_row(q, &rows[i]);
	if (r == -EMSGSIZE) {
		fail(q, SD_BUS_ERROR_LIMITS_EXCEEDED, "there is too much of it for one answer: ask for a shorter time");
		return -ECANCELED;
	}
	if (r < 0) {
		fail(q, bus_error_name(HOST_NO_MEMORY), "out of memory");
		return -ECANCELED;
	}
	if (last)
		sent(q, finish(q));
	return 0;
}

/* ---- the question ---- */

static uint64_t nanoseconds(uint64_t microseconds)
{
	return microseconds > UINT64_MAX / 1000 ? UINT64_MAX : microseconds * 1000;
}

static int read_filter(sd_bus_message *m, struct store_usage_filter *ret, sd_bus_error *ret_error)
{
	uint64_t since, until;
	const char *tenant;
	int r;

	r = sd_bus_message_read(m, "tts", &since, &until, &tenant);
	if (r < 0)
		return r;
	if (until != 0 && until < since)
		return sd_bus_error_set(ret_error, SD_BUS_ERROR_INVALID_ARGS, "that time ends before it begins");
	*ret = (struct store_usage_filter){
		.since = nanoseconds(since),
		.until = until != 0 ? nanoseconds(until) : UINT64_MAX,
	};
	if (strcmp(tenant, "/") == 0)
		ret->tenant = "";
	else if (*tenant)
		ret->tenant = tenant;
	return 0;
}

static int query_new(struct query **ret, struct bus_usage *usage, sd_bus_message *m)
{
	struct query *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	q->usage = usage;
	q->call = sd_bus_message_ref(m);
	LIST_INSERT_HEAD(&usage->list, q, entry);
	usage->n++;
	r = sd_bus_message_new_method_return(m, &q->reply);
	if (r >= 0)
		r = sd_bus_message_open_container(q->reply, 'a', BUS_USAGE_ROW);
	if (r < 0) {
		query_free(q);
		return r;
	}
	*ret = q;
	return 0;
}

int bus_usage_query(struct bus_usage *usage, sd_bus_message *m, bool totals, sd_bus_error *ret_error)
{
	struct store_usage_filter filter;
	struct query *q;
	int r;

	r = read_filter(m, &filter, ret_error);
	if (r < 0)
		return r;
	if (usage->n >= QUERIES_MAX)
		return sd_bus_error_set(ret_error, SD_BUS_ERROR_LIMITS_EXCEEDED,
					"too many ask for usage already: try again");
	filter.totals = totals;
	r = query_new(&q, usage, m);
	if (r < 0)
		return r;
	r = host_usage_query(usage->host, &filter, on_rows, q);
	if (r < 0) {
		query_free(q);
		return r;
	}
	return 1;
}

/* ---- all of them ---- */

int bus_usage_new(struct bus_usage **ret, struct host *host)
{
	struct bus_usage *usage = calloc(1, sizeof(*usage));

	if (!usage)
		return -ENOMEM;
	LIST_INIT(&usage->list);
	usage->host = host;
	*ret = usage;
	return 0;
}

void bus_usage_set_link(struct bus_usage *usage, struct bus_link *link)
{
	usage->link = link;
}

void bus_usage_lost(struct bus_usage *usage)
{
	struct query *q;

	/* the store has them, and will come back with them */
	LIST_FOREACH(q, &usage->list, entry) {
		q->reply = sd_bus_message_unref(q->reply);
		q->call = sd_bus_message_unref(q->call);
	}
}

struct bus_usage *bus_usage_free(struct bus_usage *usage)
{
	if (!usage)
		return NULL;
	while (!LIST_EMPTY(&usage->list))
		query_free(LIST_FIRST(&usage->list));
	free(usage);
	return NULL;
}
