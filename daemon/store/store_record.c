/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/store/store_record.h"

#include <stdio.h>
#include <string.h>

#include "daemon/base/peer.h"
#include "daemon/base/util.h"
#include "proto/text.h"

enum column_type {
	COLUMN_ID, /* 16 bytes */
	COLUMN_NAME,
	COLUMN_BITS, /* one for each possible vCPU */
	COLUMN_BOOL,
	COLUMN_U32,
	COLUMN_U64,
	COLUMN_PID,
	COLUMN_POSSIBLE,
	COLUMN_RESULT,
	COLUMN_I64,
	COLUMN_TEXT, /* may be NULL */
	COLUMN_MEANS,
};

struct column {
	const char *name;
	enum column_type type;
	size_t offset;
};

#define COLUMN(name, type)                                                                                             \
	{                                                                                                              \
#name, type, offsetof(struct store_vm, name)                                                           \
	}
#define JOB(job, member, type)                                                                                         \
	{                                                                                                              \
#job "_" #member, type, offsetof(struct store_vm, job.member)                                          \
	}
#define METER(name, member, type)                                                                                      \
	{                                                                                                              \
#name, type, offsetof(struct store_vm, meters.member)                                                  \
	}
#define JOB_COLUMNS(job)                                                                                               \
	JOB(job, id, COLUMN_U64), JOB(job, from, COLUMN_U32), JOB(job, to, COLUMN_U32),                                \
		JOB(job, result, COLUMN_RESULT), JOB(job, uid, COLUMN_U32), JOB(job, pending, COLUMN_U32),             \
		JOB(job, settled, COLUMN_U32), JOB(job, refused, COLUMN_U32), JOB(job, forbidden, COLUMN_BOOL),        \
		JOB(job, online, COLUMN_BOOL), JOB(job, stopped, COLUMN_BOOL), JOB(job, deadline, COLUMN_U64),         \
		JOB(job, remaining, COLUMN_U64)

/* `possible` comes before what is sized by it. boot_id, which is not the VM's, is the one column after these. */
static const struct column columns[] = {
	COLUMN(uuid, COLUMN_ID),
	COLUMN(token, COLUMN_ID),
	COLUMN(name, COLUMN_NAME),
	COLUMN(possible, COLUMN_POSSIBLE),
	COLUMN(boot, COLUMN_U32),
	COLUMN(desired, COLUMN_U32),
	COLUMN(desired_set, COLUMN_BOOL),
	COLUMN(desired_uid, COLUMN_U32),
	COLUMN(desired_millis, COLUMN_U32),
	COLUMN(means, COLUMN_MEANS),
	COLUMN(realm, COLUMN_BOOL),
	COLUMN(boot_removable, COLUMN_BOOL),
	COLUMN(notify, COLUMN_BOOL),
	COLUMN(stopped, COLUMN_BOOL),
	COLUMN(epoch, COLUMN_U32),
	COLUMN(enabled, COLUMN_BITS),
	COLUMN(wanted, COLUMN_BITS),
	COLUMN(uid, COLUMN_U32),
	COLUMN(pid, COLUMN_PID),
	COLUMN(start_time, COLUMN_U64),
	JOB_COLUMNS(job),
	JOB_COLUMNS(last_job),
	COLUMN(assigned_class, COLUMN_TEXT),
	COLUMN(assigned_tenant, COLUMN_TEXT),
	COLUMN(assigned_uid, COLUMN_U32),
	METER(credit_opened, credit_opened, COLUMN_BOOL),
	METER(credit_spent, credit_spent, COLUMN_BOOL),
	METER(balance, balance, COLUMN_I64),
	METER(metered_at, at, COLUMN_U64),
	METER(open_row, row.number, COLUMN_U64),
	METER(open_began, row.begin, COLUMN_U64),
	METER(last_row, last_row, COLUMN_U64),
	COLUMN(class, COLUMN_TEXT),
	COLUMN(tenant, COLUMN_TEXT),
};

_Static_assert(CPUPOLICY_UUID_SIZE == 16 && CPUPOLICY_TOKEN_SIZE == 16, "COLUMN_ID");
_Static_assert(sizeof(uid_t) == sizeof(uint32_t), "uid is a COLUMN_U32");

static size_t bits_size(const struct store_vm *vm)
{
	return (vm->possible + 7) / 8;
}

/* ---- statements ---- */

static void list_columns(FILE *f, const char *prefix)
{
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		fprintf(f, "%s%s, ", prefix, columns[i].name);
	fprintf(f, "%sboot_id", prefix);
}

static int prepare_text(sqlite3 *db, FILE *f, char **sql, sqlite3_stmt **ret)
{
	if (fclose(f) != 0)
		return SQLITE_NOMEM;
	return sqlite3_prepare_v3(db, *sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
}

static int prepare_put(sqlite3 *db, sqlite3_stmt **ret)
{
	_cleanup_free_ char *sql = NULL;
	size_t size;
	FILE *f = open_memstream(&sql, &size);

	if (!f)
		return SQLITE_NOMEM;
	fputs("INSERT OR REPLACE INTO vm (", f);
	list_columns(f, "");
	fputs(") VALUES (?", f);
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		fputs(", ?", f);
	fputs(")", f);
	return prepare_text(db, f, &sql, ret);
}

int store_record_prepare(sqlite3 *db, struct store_record_sql *ret)
{
	static const char del[] = "DELETE FROM vm WHERE uuid = ?";
	static const char usage[] = "INSERT OR REPLACE INTO usage (uuid, number, began, ended, name, class, tenant, "
				    "guaranteed_ns, burst_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
	static const char host[] = "INSERT OR REPLACE INTO host (one, frozen, drained, frozen_uid, drained_uid) "
				   "VALUES (1, ?, ?, ?, ?)";
	int rc = prepare_put(db, &ret->put);

	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(db, del, -1, SQLITE_PREPARE_PERSISTENT, &ret->del, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(db, usage, -1, SQLITE_PREPARE_PERSISTENT, &ret->usage, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(db, host, -1, SQLITE_PREPARE_PERSISTENT, &ret->host, NULL);
	return rc;
}

void store_record_finalize(struct store_record_sql *sql)
{
	sqlite3_finalize(sql->put);
	sqlite3_finalize(sql->del);
	sqlite3_finalize(sql->usage);
	sqlite3_finalize(sql->host);
}

/* What is open of the usage is a row among the others, which the record names. */
int store_record_prepare_load(sqlite3 *db, sqlite3_stmt **ret)
{
	_cleanup_free_ char *sql = NULL;
	size_t size;
	FILE *f = open_memstream(&sql, &size);

	if (!f)
		return SQLITE_NOMEM;
	fputs("SELECT ", f);
	list_columns(f, "vm.");
	fputs(", ended, guaranteed_ns, burst_ns FROM vm LEFT JOIN usage"
	      " ON usage.uuid = vm.uuid AND number = open_row AND began = open_began ORDER BY vm.uuid",
	      f);
	return prepare_text(db, f, &sql, ret);
}

/* ---- writing ---- */

static int bind(sqlite3_stmt *s, int i, const struct column *column, const struct store_vm *vm)
{
	const void *from = (const char *)vm + column->offset;

	switch (column->type) {
	case COLUMN_ID:
		return sqlite3_bind_blob(s, i, from, 16, SQLITE_STATIC);
	case COLUMN_NAME:
		return sqlite3_bind_text(s, i, *(char *const *)from, -1, SQLITE_STATIC);
	case COLUMN_BITS:
		return sqlite3_bind_blob(s, i, *(uint8_t *const *)from, (int)bits_size(vm), SQLITE_STATIC);
	case COLUMN_BOOL:
		return sqlite3_bind_int(s, i, *(const bool *)from);
	case COLUMN_U32:
	case COLUMN_POSSIBLE:
		return sqlite3_bind_int64(s, i, *(const uint32_t *)from);
	case COLUMN_U64:
		return sqlite3_bind_int64(s, i, (sqlite3_int64) * (const uint64_t *)from);
	case COLUMN_PID:
		return sqlite3_bind_int64(s, i, *(const pid_t *)from);
	case COLUMN_RESULT:
		return sqlite3_bind_int(s, i, (int)*(const enum job_result *)from);
	case COLUMN_I64:
		return sqlite3_bind_int64(s, i, *(const int64_t *)from);
	case COLUMN_MEANS:
		return sqlite3_bind_int(s, i, (int)*(const enum cpupolicy_means *)from);
	case COLUMN_TEXT: /* NULL is bound as NULL */
		return sqlite3_bind_text(s, i, *(char *const *)from, -1, SQLITE_STATIC);
	}
	return SQLITE_MISUSE;
}

static int run(sqlite3_stmt *s)
{
	int rc = sqlite3_step(s);

	sqlite3_reset(s);
	/* What was bound is the caller's memory. */
	sqlite3_clear_bindings(s);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int put_record(sqlite3_stmt *put, const struct store_vm *vm, const char *boot_id)
{
	int i = 0, rc = SQLITE_OK;

	while (rc == SQLITE_OK && (size_t)i < ARRAY_SIZE(columns)) {
		rc = bind(put, i + 1, &columns[i], vm);
		i++;
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(put, i + 1, boot_id, -1, SQLITE_STATIC);
	return rc == SQLITE_OK ? run(put) : rc;
}

static int put_row(sqlite3_stmt *s, const struct store_vm *vm, const struct usage_row *row, const char *class,
		   const char *tenant)
{
	sqlite3_bind_blob(s, 1, vm->uuid, sizeof(vm->uuid), SQLITE_STATIC);
	sqlite3_bind_int64(s, 2, (sqlite3_int64)row->number);
	sqlite3_bind_int64(s, 3, (sqlite3_int64)row->begin);
	sqlite3_bind_int64(s, 4, (sqlite3_int64)row->end);
	sqlite3_bind_text(s, 5, vm->name, -1, SQLITE_STATIC);
	sqlite3_bind_text(s, 6, class ? class : "", -1, SQLITE_STATIC);
	sqlite3_bind_text(s, 7, tenant, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 8, (sqlite3_int64)row->guaranteed_ns);
	sqlite3_bind_int64(s, 9, (sqlite3_int64)row->burst_ns);
	return run(
		s); /* what could not be bound is NULL, and no column but the tenant, which is NULL then, takes that */
}

int store_record_put_usage(const struct store_record_sql *sql, const struct store_vm *vm)
{
	int rc = SQLITE_OK;

	for (size_t i = 0; rc == SQLITE_OK && i < vm->n_usage; i++)
		rc = put_row(sql->usage, vm, &vm->usage[i].row, vm->usage[i].class, vm->usage[i].tenant);
	if (rc == SQLITE_OK && vm->meters.row.number != 0)
		rc = put_row(sql->usage, vm, &vm->meters.row, vm->class, vm->tenant);
	return rc;
}

int store_record_put(const struct store_record_sql *sql, const struct store_vm *vm, const char *boot_id)
{
	int rc = store_record_put_usage(sql, vm);

	return rc == SQLITE_OK ? put_record(sql->put, vm, boot_id) : rc;
}

int store_record_delete(const struct store_record_sql *sql, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	int rc = sqlite3_bind_blob(sql->del, 1, uuid, CPUPOLICY_UUID_SIZE, SQLITE_STATIC);

	return rc == SQLITE_OK ? run(sql->del) : rc;
}

int store_record_put_host(const struct store_record_sql *sql, const struct store_host *host)
{
	sqlite3_bind_int(sql->host, 1, host->frozen);
	sqlite3_bind_int(sql->host, 2, host->drained);
	sqlite3_bind_int64(sql->host, 3, host->frozen_uid);
	sqlite3_bind_int64(sql->host, 4, host->drained_uid);
	return run(sql->host);
}

/* ---- reading: what the file says is checked, it may have been edited ---- */

static int read_number(sqlite3_stmt *s, int i, sqlite3_int64 min, sqlite3_int64 max, sqlite3_int64 *ret)
{
	sqlite3_int64 n = sqlite3_column_int64(s, i);

	if (sqlite3_column_type(s, i) != SQLITE_INTEGER || n < min || n > max)
		return -EBADMSG;
	*ret = n;
	return 0;
}

static int read_bytes(sqlite3_stmt *s, int i, void *to, size_t size)
{
	const void *bytes = sqlite3_column_blob(s, i);

	if (!bytes || sqlite3_column_type(s, i) != SQLITE_BLOB || (size_t)sqlite3_column_bytes(s, i) != size)
		return -EBADMSG;
	memcpy(to, bytes, size);
	return 0;
}

static int read_bits(sqlite3_stmt *s, int i, uint8_t **to, size_t size)
{
	*to = malloc(size);
	return *to ? read_bytes(s, i, *to, size) : -ENOMEM;
}

static int read_name(sqlite3_stmt *s, int i, char **to)
{
	const char *text = (const char *)sqlite3_column_text(s, i), *why;

	if (!text || cpupolicy_text_check_name(text, &why) < 0)
		return -EBADMSG;
	*to = strdup(text);
	return *to ? 0 : -ENOMEM;
}

static int read_text(sqlite3_stmt *s, int i, char **to)
{
	const char *text = (const char *)sqlite3_column_text(s, i), *why;

	if (sqlite3_column_type(s, i) == SQLITE_NULL)
		return 0;
	if (!text || cpupolicy_text_check_name(text, &why) < 0)
		return -EBADMSG;
	*to = strdup(text);
	return *to ? 0 : -ENOMEM;
}

static int read_column(sqlite3_stmt *s, int i, const struct column *column, struct store_vm *vm)
{
	void *to = (char *)vm + column->offset;
	sqlite3_int64 n = 0;
	int r = -EBADMSG;

	switch (column->type) {
	case COLUMN_ID:
		return read_bytes(s, i, to, 16);
	case COLUMN_NAME:
		return read_name(s, i, to);
	case COLUMN_BITS:
		return read_bits(s, i, to, bits_size(vm));
	case COLUMN_BOOL:
		r = read_number(s, i, 0, 1, &n);
		*(bool *)to = n != 0;
		break;
	case COLUMN_POSSIBLE:
		r = read_number(s, i, 1, CPUPOLICY_MAX_VCPUS, &n);
		*(uint32_t *)to = (uint32_t)n;
		break;
	case COLUMN_U32:
		r = read_number(s, i, 0, UINT32_MAX, &n);
		*(uint32_t *)to = (uint32_t)n;
		break;
	case COLUMN_U64:
		r = read_number(s, i, INT64_MIN, INT64_MAX, &n);
		*(uint64_t *)to = (uint64_t)n;
		break;
	case COLUMN_PID:
		r = read_number(s, i, PEER_PID_GONE, INT32_MAX, &n);
		*(pid_t *)to = (pid_t)n;
		break;
	case COLUMN_RESULT:
		r = read_number(s, i, 0, JOB_RESULT_MAX, &n);
		*(enum job_result *)to = (enum job_result)n;
		break;
	case COLUMN_I64:
		r = read_number(s, i, INT64_MIN, INT64_MAX, &n);
		*(int64_t *)to = n;
		break;
	case COLUMN_MEANS:
		r = read_number(s, i, CPUPOLICY_MEANS_PSCI, CPUPOLICY_MEANS_NONE, &n);
		*(enum cpupolicy_means *)to = (enum cpupolicy_means)n;
		break;
	case COLUMN_TEXT:
		return read_text(s, i, to);
	}
	return r;
}

/* The row that is open; if it is not there any more, the next one is new. */
static int read_open_row(sqlite3_stmt *load, int i, struct usage_row *row)
{
	sqlite3_int64 ended = 0, guaranteed = 0, burst = 0;
	int r;

	if (sqlite3_column_type(load, i) == SQLITE_NULL) {
		*row = (struct usage_row){0};
		return 0;
	}
	r = read_number(load, i, INT64_MIN, INT64_MAX, &ended);
	if (r >= 0)
		r = read_number(load, i + 1, INT64_MIN, INT64_MAX, &guaranteed);
	if (r >= 0)
		r = read_number(load, i + 2, INT64_MIN, INT64_MAX, &burst);
	row->end = (uint64_t)ended;
	row->guaranteed_ns = (uint64_t)guaranteed;
	row->burst_ns = (uint64_t)burst;
	return r;
}

static int read_columns(sqlite3_stmt *load, struct store_vm *vm, const char **ret_column)
{
	int r;

	for (int i = 0; (size_t)i < ARRAY_SIZE(columns); i++) {
		r = read_column(load, i, &columns[i], vm);
		if (r < 0) {
			*ret_column = columns[i].name;
			return r;
		}
	}
	r = read_open_row(load, (int)ARRAY_SIZE(columns) + 1, &vm->meters.row);
	if (r < 0)
		*ret_column = "open_row";
	return r;
}

int store_record_read(sqlite3_stmt *load, struct store_vm *ret, const char *boot_id, const char **ret_column)
{
	struct store_vm vm = {0};
	const char *recorded;
	int r = read_columns(load, &vm, ret_column);

	if (r < 0) {
		store_vm_clear(&vm);
		return r;
	}
	recorded = (const char *)sqlite3_column_text(load, (int)ARRAY_SIZE(columns));
	if (recorded && recorded[0] && boot_id[0] && strcmp(recorded, boot_id) != 0) {
		/* No process survives a restart of the host, and its number may be another's by now. */
		vm.pid = PEER_PID_GONE;
		vm.other_boot = true;
	}
	/* Of a version that did not meter; or whether the clock is another one cannot be known. */
	if (vm.meters.at == 0 || !boot_id[0] || !recorded || !recorded[0])
		vm.other_boot = true;
	*ret = vm;
	return 0;
}

int store_record_load_host(sqlite3 *db, struct store_host *ret, const char **ret_column)
{
	static const char *const names[] = {"frozen", "drained", "frozen_uid", "drained_uid"};
	sqlite3_int64 values[ARRAY_SIZE(names)] = {0, 0, UINT32_MAX, UINT32_MAX};
	sqlite3_stmt *load = NULL;
	int rc;

	rc = sqlite3_prepare_v2(db, "SELECT frozen, drained, frozen_uid, drained_uid FROM host", -1, &load, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(load);
	*ret_column = NULL;
	for (int i = 0; rc == SQLITE_ROW && !*ret_column && (size_t)i < ARRAY_SIZE(names); i++)
		if (read_number(load, i, 0, i < 2 ? 1 : UINT32_MAX, &values[i]) < 0)
			*ret_column = names[i];
	sqlite3_finalize(load);
	*ret = (struct store_host){
		.frozen = values[0] != 0,
		.drained = values[1] != 0,
		.frozen_uid = (uint32_t)values[2],
		.drained_uid = (uint32_t)values[3],
	};
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}
