/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/store/store_usage.h"

#include <stdio.h>
#include <string.h>

#include "daemon/store/store_schema.h"
#include "daemon/base/util.h"

static const char rows_sql[] =
	"SELECT uuid, number, began, ended, name, class, tenant, guaranteed_ns, burst_ns FROM usage "
	"WHERE began >= ?1 AND began < ?2 AND (?3 IS NULL OR ifnull(tenant, '') = ?3) AND (?4 IS NULL OR uuid = ?4) "
	"ORDER BY began, uuid, number";

static const char totals_sql[] =
	"SELECT uuid, count(*), min(began), max(ended), name, class, tenant, sum(guaranteed_ns), sum(burst_ns) FROM "
	"usage "
	"WHERE began >= ?1 AND began < ?2 AND (?3 IS NULL OR ifnull(tenant, '') = ?3) AND (?4 IS NULL OR uuid = ?4) "
	"GROUP BY tenant, name, uuid, class ORDER BY tenant, name, uuid, class";

struct usage_query {
	struct store_task task; /* first */
	uint64_t since, until;
	char *tenant;
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	bool by_uuid;
	bool totals;
	store_usage_fn fn;
	void *userdata;
	sqlite3 *db;
	sqlite3_stmt *select;
	/* what is to be delivered */
	struct store_usage_row rows[STORE_USAGE_BATCH];
	size_t n;
	bool last;
	int error;
	char *why;
};

static void clear_rows(struct usage_query *q)
{
	for (size_t i = 0; i < q->n; i++) {
		free((char *)q->rows[i].name);
		free((char *)q->rows[i].class);
		free((char *)q->rows[i].tenant);
	}
	q->n = 0;
}

static void task_free(struct store_task *task)
{
	struct usage_query *q = (struct usage_query *)task;

	clear_rows(q);
	sqlite3_finalize(q->select);
	sqlite3_close(q->db);
	free(q->tenant);
	free(q->why);
	free(q);
}

/* ---- the thread ---- */

/* SQLite's numbers are signed; the year 2262 is far enough. */
static sqlite3_int64 clip(uint64_t n)
{
	return n > INT64_MAX ? INT64_MAX : (sqlite3_int64)n;
}

static int begin(struct usage_query *q)
{
	int rc = store_reader_open(q->task.reader, &q->db);

	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(q->db, q->totals ? totals_sql : rows_sql, -1, &q->select, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(q->select, 1, clip(q->since));
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(q->select, 2, clip(q->until));
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(q->select, 3, q->tenant, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK && q->by_uuid)
		rc = sqlite3_bind_blob(q->select, 4, q->uuid, sizeof(q->uuid), SQLITE_STATIC);
	return rc;
}

static char *copy_text(sqlite3_stmt *s, int i)
{
	const unsigned char *text = sqlite3_column_text(s, i);

	return text ? strdup((const char *)text) : NULL;
}

static int take_row(struct usage_query *q)
{
	struct store_usage_row *row = &q->rows[q->n];
	const void *uuid = sqlite3_column_blob(q->select, 0);

	if (!uuid || sqlite3_column_bytes(q->select, 0) != sizeof(row->uuid))
		return SQLITE_CORRUPT;
	memcpy(row->uuid, uuid, sizeof(row->uuid));
	row->row = (struct usage_row){
		.number = (uint64_t)sqlite3_column_int64(q->select, 1),
		.begin = (uint64_t)sqlite3_column_int64(q->select, 2),
		.end = (uint64_t)sqlite3_column_int64(q->select, 3),
		.guaranteed_ns = (uint64_t)sqlite3_column_int64(q->select, 7),
		.burst_ns = (uint64_t)sqlite3_column_int64(q->select, 8),
	};
	row->name = copy_text(q->select, 4);
	row->class = copy_text(q->select, 5);
	row->tenant = copy_text(q->select, 6);
	q->n++;
	if (!row->name || !row->class || (!row->tenant && sqlite3_column_type(q->select, 6) != SQLITE_NULL))
		return SQLITE_NOMEM;
	return SQLITE_OK;
}

static void fail(struct usage_query *q, int rc)
{
	clear_rows(q);
	q->last = true;
	if ((rc & 0xff) == SQLITE_ERROR && strcmp(sqlite3_errmsg(q->db), "integer overflow") == 0) {
		q->error = -EOVERFLOW;
		q->why = strdup("a sum is more than 292 vCPU-years: ask for a shorter time");
		return;
	}
	q->error = store_schema_error(q->db, rc, store_reader_directory(q->task.reader), "read the usage", &q->why);
}

static enum store_task_state step(struct store_task *task)
{
	struct usage_query *q = (struct usage_query *)task;
	int rc;

	errno = 0;
	rc = q->select ? SQLITE_OK : begin(q);
	while (rc == SQLITE_OK && q->n < STORE_USAGE_BATCH) {
		rc = sqlite3_step(q->select);
		if (rc == SQLITE_ROW)
			rc = take_row(q);
	}
	if (rc == SQLITE_DONE)
		q->last = true;
	else if (rc != SQLITE_OK)
		fail(q, rc);
	return STORE_TASK_DELIVERS;
}

/* ---- the loop ---- */

static bool deliver(struct store_task *task)
{
	struct usage_query *q = (struct usage_query *)task;
	const char *why = q->error == 0 ? NULL : q->why ? q->why : strerror(-q->error);
	int r = q->fn(q->rows, q->n, q->last, q->error, why, q->userdata);

	clear_rows(q);
	return r >= 0 && !q->last;
}

int store_usage_start(struct store_reader *reader, const struct store_usage_filter *filter, store_usage_fn fn,
		      void *userdata)
{
	struct usage_query *q = calloc(1, sizeof(*q));
	int r = 0;

	if (!q)
		return -ENOMEM;
	q->task = (struct store_task){.step = step, .deliver = deliver, .free = task_free};
	q->since = filter->since;
	q->until = filter->until;
	q->totals = filter->totals;
	q->fn = fn;
	q->userdata = userdata;
	if (filter->uuid) {
		memcpy(q->uuid, filter->uuid, sizeof(q->uuid));
		q->by_uuid = true;
	}
	if (filter->tenant) {
		q->tenant = strdup(filter->tenant);
		r = q->tenant ? 0 : -ENOMEM;
	}
	if (r >= 0)
		r = store_reader_start(reader, &q->task);
	if (r < 0)
		task_free(&q->task);
	return r;
}
