/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/store_record.h"

#include <stdio.h>
#include <string.h>

#include "daemon/peer.h"
#include "daemon/util.h"
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
};

_Static_assert(CPUPOLICY_UUID_SIZE == 16 && CPUPOLICY_TOKEN_SIZE == 16, "COLUMN_ID");
_Static_assert(sizeof(uid_t) == sizeof(uint32_t), "uid is a COLUMN_U32");

static size_t bits_size(const struct store_vm *vm)
{
	return (vm->possible + 7) / 8;
}

/* ---- statements ---- */

static int prepare(sqlite3 *db, const char *head, const char *each, const char *tail, sqlite3_stmt **ret)
{
	_cleanup_free_ char *sql = NULL;
	size_t size;
	FILE *f = open_memstream(&sql, &size);

	if (!f)
		return SQLITE_NOMEM;
	fputs(head, f);
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		fprintf(f, "%s, ", columns[i].name);
	fputs("boot_id", f);
	if (each) {
		fputs(") VALUES (", f);
		for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
			fprintf(f, "%s, ", each);
		fputs(each, f);
	}
	fputs(tail, f);
	if (fclose(f) != 0)
		return SQLITE_NOMEM;
	return sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
}

int store_record_prepare_put(sqlite3 *db, sqlite3_stmt **ret)
{
	return prepare(db, "INSERT OR REPLACE INTO vm (", "?", ")", ret);
}

int store_record_prepare_delete(sqlite3 *db, sqlite3_stmt **ret)
{
	return sqlite3_prepare_v3(db, "DELETE FROM vm WHERE uuid = ?", -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
}

int store_record_prepare_load(sqlite3 *db, sqlite3_stmt **ret)
{
	return prepare(db, "SELECT ", NULL, " FROM vm ORDER BY uuid", ret);
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

int store_record_put(sqlite3_stmt *put, const struct store_vm *vm, const char *boot_id)
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

int store_record_delete(sqlite3_stmt *del, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	int rc = sqlite3_bind_blob(del, 1, uuid, CPUPOLICY_UUID_SIZE, SQLITE_STATIC);

	return rc == SQLITE_OK ? run(del) : rc;
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
	}
	return r;
}

int store_record_read(sqlite3_stmt *load, struct store_vm *ret, const char *boot_id, const char **ret_column)
{
	struct store_vm vm = {0};
	const char *recorded;

	for (int i = 0; (size_t)i < ARRAY_SIZE(columns); i++) {
		int r = read_column(load, i, &columns[i], &vm);

		if (r < 0) {
			store_vm_clear(&vm);
			*ret_column = columns[i].name;
			return r;
		}
	}
	recorded = (const char *)sqlite3_column_text(load, (int)ARRAY_SIZE(columns));
	/* No process survives a restart of the host, and its number may be another's by now. */
	if (recorded && recorded[0] && boot_id[0] && strcmp(recorded, boot_id) != 0)
		vm.pid = PEER_PID_GONE;
	*ret = vm;
	return 0;
}

void store_vm_clear(struct store_vm *vm)
{
	free(vm->name);
	free(vm->enabled);
	free(vm->wanted);
	*vm = (struct store_vm){0};
}
