/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/store/store_schema.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/util.h"

#define APPLICATION_ID  1668314480 /* "cpup": tells our files from others */
#define BUSY_TIMEOUT_MS 5000       /* for an administrator's sqlite3 or backup */
#define WAL_KEEP_BYTES  "4194304"

/*
 * migrations[n] brings a database from version n to n + 1: append only, since every version that was ever released
 * starts from some prefix. Numbers are stored as SQLite's signed ones; 64-bit counters keep their bits.
 */
static const char *const migrations[] = {
	"CREATE TABLE vm ("
	"	uuid BLOB NOT NULL PRIMARY KEY,"
	"	token BLOB NOT NULL,"
	"	name TEXT NOT NULL,"
	"	possible INTEGER NOT NULL,"
	"	boot INTEGER NOT NULL,"
	"	desired INTEGER NOT NULL,"
	"	desired_set INTEGER NOT NULL,"
	"	desired_uid INTEGER NOT NULL,"
	"	boot_removable INTEGER NOT NULL,"
	"	notify INTEGER NOT NULL,"
	"	stopped INTEGER NOT NULL,"
	"	epoch INTEGER NOT NULL,"
	"	enabled BLOB NOT NULL,"
	"	wanted BLOB NOT NULL,"
	"	uid INTEGER NOT NULL,"
	"	pid INTEGER NOT NULL,"
	"	start_time INTEGER NOT NULL,"
	"	boot_id TEXT NOT NULL," /* of the host: pid and start_time mean nothing in another */
	"	job_id INTEGER NOT NULL,"
	"	job_from INTEGER NOT NULL,"
	"	job_to INTEGER NOT NULL,"
	"	job_result INTEGER NOT NULL,"
	"	job_uid INTEGER NOT NULL,"
	"	job_pending INTEGER NOT NULL,"
	"	job_settled INTEGER NOT NULL,"
	"	job_refused INTEGER NOT NULL,"
	"	job_forbidden INTEGER NOT NULL,"
	"	job_online INTEGER NOT NULL,"
	"	job_stopped INTEGER NOT NULL,"
	"	job_deadline INTEGER NOT NULL,"
	"	job_remaining INTEGER NOT NULL,"
	"	last_job_id INTEGER NOT NULL,"
	"	last_job_from INTEGER NOT NULL,"
	"	last_job_to INTEGER NOT NULL,"
	"	last_job_result INTEGER NOT NULL,"
	"	last_job_uid INTEGER NOT NULL,"
	"	last_job_pending INTEGER NOT NULL,"
	"	last_job_settled INTEGER NOT NULL,"
	"	last_job_refused INTEGER NOT NULL,"
	"	last_job_forbidden INTEGER NOT NULL,"
	"	last_job_online INTEGER NOT NULL,"
	"	last_job_stopped INTEGER NOT NULL,"
	"	last_job_deadline INTEGER NOT NULL,"
	"	last_job_remaining INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;",

	/* Service levels. What is NULL was not assigned, or is not known of a record that is older. */
	"ALTER TABLE vm ADD COLUMN assigned_class TEXT;"
	"ALTER TABLE vm ADD COLUMN assigned_tenant TEXT;"
	"ALTER TABLE vm ADD COLUMN assigned_uid INTEGER NOT NULL DEFAULT 4294967295;"
	"ALTER TABLE vm ADD COLUMN credit_opened INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE vm ADD COLUMN credit_spent INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE vm ADD COLUMN balance INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE vm ADD COLUMN metered_at INTEGER NOT NULL DEFAULT 0;" /* 0: never */
	"ALTER TABLE vm ADD COLUMN open_row INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE vm ADD COLUMN open_began INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE vm ADD COLUMN last_row INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE vm ADD COLUMN class TEXT;"
	"ALTER TABLE vm ADD COLUMN tenant TEXT;"
	/* A VM that was forgotten and comes again numbers its rows from 1 anew: when one began tells them apart. */
	"CREATE TABLE usage ("
	"	uuid BLOB NOT NULL,"
	"	number INTEGER NOT NULL,"
	"	began INTEGER NOT NULL," /* ns since 1970, as the next */
	"	ended INTEGER NOT NULL,"
	"	name TEXT NOT NULL,"
	"	class TEXT NOT NULL,"
	"	tenant TEXT,"
	"	guaranteed_ns INTEGER NOT NULL,"
	"	burst_ns INTEGER NOT NULL,"
	"	PRIMARY KEY (uuid, number, began)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX usage_began ON usage (began);"
	"CREATE TABLE host ("
	"	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),"
	"	frozen INTEGER NOT NULL,"
	"	drained INTEGER NOT NULL,"
	"	frozen_uid INTEGER NOT NULL,"
	"	drained_uid INTEGER NOT NULL"
	") STRICT;",

	/* Providers; and what a VM is that nobody is connected to. */
	"ALTER TABLE vm ADD COLUMN desired_millis INTEGER NOT NULL DEFAULT 0;" /* 0: whole vCPUs */
	"ALTER TABLE vm ADD COLUMN means INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE vm ADD COLUMN realm INTEGER NOT NULL DEFAULT 0;"
	"CREATE TABLE announcement ("
	"	uuid BLOB NOT NULL PRIMARY KEY,"
	"	provider TEXT NOT NULL,"
	"	name TEXT,"            /* NULL was not said, as of the others */
	"	uid INTEGER NOT NULL," /* 4294967295: any */
	"	label TEXT,"
	"	class TEXT,"
	"	tenant TEXT,"
	"	desired INTEGER NOT NULL," /* 0: not said */
	"	quota INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;",
};

static int __attribute__((format(printf, 3, 4))) say(int r, char **ret, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (vasprintf(ret, format, ap) < 0)
		*ret = NULL;
	va_end(ap);
	return r;
}

static bool means_full(int system)
{
	return system == ENOSPC || system == EDQUOT || system == EFBIG;
}

int store_schema_error(sqlite3 *db, int rc, const char *directory, const char *what, char **ret_why)
{
	int last = errno, system = db ? sqlite3_system_errno(db) : 0;

	/* SQLite does not keep it of a commit that fails. */
	if (system == 0 && means_full(last))
		system = last;
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		*ret_why = NULL;
		return -ENOMEM;
	case SQLITE_FULL:
		return say(-ENOSPC, ret_why, "%s is full: cannot %s", directory, what);
	case SQLITE_READONLY:
		return say(-EROFS, ret_why, "%s cannot be written: cannot %s", directory, what);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return say(-EBADMSG, ret_why, "the database in %s is damaged (%s): cannot %s", directory,
			   sqlite3_errstr(rc), what);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return say(-EBUSY, ret_why, "another program holds the database in %s: cannot %s", directory, what);
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		if (means_full(system))
			return say(-ENOSPC, ret_why, "%s is full (%s): cannot %s", directory, strerror(system), what);
		if (system != 0)
			return say(-system, ret_why, "cannot %s in %s: %s", what, directory, strerror(system));
		return say(-EIO, ret_why, "cannot %s in %s: %s", what, directory, sqlite3_errstr(rc));
	default:
		return say(-EIO, ret_why, "cannot %s in %s: %s", what, directory,
			   db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
	}
}

/* The one value of a statement; *ret_text is its text, to free. */
static int query(sqlite3 *db, const char *sql, char **ret_text)
{
	sqlite3_stmt *statement = NULL;
	char *text = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
		if (rc == SQLITE_ROW) {
			const unsigned char *column = sqlite3_column_text(statement, 0);

			text = column ? strdup((const char *)column) : NULL;
			rc = text ? SQLITE_OK : SQLITE_NOMEM;
		} else if (rc == SQLITE_DONE) {
			rc = SQLITE_CORRUPT; /* each of these has a row */
		}
	}
	sqlite3_finalize(statement);
	if (rc == SQLITE_OK)
		*ret_text = text;
	return rc;
}

static int query_number(sqlite3 *db, const char *sql, long long *ret)
{
	_cleanup_free_ char *text = NULL;
	int rc = query(db, sql, &text);

	if (rc == SQLITE_OK)
		*ret = strtoll(text, NULL, 10);
	return rc;
}

struct identity {
	long long application;
	long long version;
	long long objects;
};

static int read_identity(sqlite3 *db, struct identity *ret)
{
	int rc = query_number(db, "PRAGMA application_id", &ret->application);

	if (rc == SQLITE_OK)
		rc = query_number(db, "PRAGMA user_version", &ret->version);
	if (rc == SQLITE_OK)
		rc = query_number(db, "SELECT count(*) FROM sqlite_schema", &ret->objects);
	return rc;
}

/* The records. Usage is years of rows: what is damaged there is found where it is read. */
static int check_records(sqlite3 *db, const char *directory, char **ret_error)
{
	_cleanup_free_ char *verdict = NULL;
	int rc = query(db, "PRAGMA quick_check(vm)", &verdict);

	if (rc != SQLITE_OK)
		return store_schema_error(db, rc, directory, "check it", ret_error);
	if (strcmp(verdict, "ok") != 0)
		return say(-EBADMSG, ret_error, "the database in %s is damaged (%s)", directory, verdict);
	return 0;
}

/* Looks only. *ret_version: of the schema; 0 if the file is empty. */
static int check(sqlite3 *db, const char *directory, const char *path, unsigned *ret_version, char **ret_error)
{
	struct identity id;
	int rc;

	if (sqlite3_db_readonly(db, "main") == 1)
		return say(-EROFS, ret_error, "%s cannot be written", path);
	rc = read_identity(db, &id);
	if (rc != SQLITE_OK)
		return store_schema_error(db, rc, directory, "read it", ret_error);
	if (id.application == 0 && id.version == 0 && id.objects == 0) {
		*ret_version = 0;
		return 0;
	}
	if (id.application != APPLICATION_ID || id.version < 1)
		return say(-EBADMSG, ret_error, "%s is a database, but not one of cpupolicyd", path);
	if ((unsigned long long)id.version > ARRAY_SIZE(migrations))
		return say(
			-ENOTSUP, ret_error,
			"%s was written by a newer cpupolicyd (version %lld of its layout; this one knows up to %zu)",
			path, id.version, ARRAY_SIZE(migrations));
	rc = check_records(db, directory, ret_error);
	if (rc < 0)
		return rc;
	*ret_version = (unsigned)id.version;
	return 0;
}

static int set_journal(sqlite3 *db)
{
	_cleanup_free_ char *mode = NULL;
	int rc = query(db, "PRAGMA journal_mode=WAL", &mode);

	if (rc == SQLITE_OK && strcmp(mode, "wal") != 0)
		rc = SQLITE_CANTOPEN; /* no shared memory on that file system */
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=" WAL_KEEP_BYTES, NULL, NULL,
				  NULL);
	return rc;
}

/* Each step is one transaction, so a crash in between leaves a version that is whole. */
static int migrate(sqlite3 *db, unsigned version)
{
	for (; version < ARRAY_SIZE(migrations); version++) {
		char *sql =
			sqlite3_mprintf("BEGIN IMMEDIATE; %s PRAGMA application_id=%d; PRAGMA user_version=%u; COMMIT",
					migrations[version], APPLICATION_ID, version + 1);
		int rc;

		if (!sql)
			return SQLITE_NOMEM;
		rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
		sqlite3_free(sql);
		if (rc != SQLITE_OK)
			return rc;
	}
	return SQLITE_OK;
}

int store_schema_open(sqlite3 **ret, const char *directory, const char *path, char **ret_error)
{
	sqlite3 *db = NULL;
	unsigned version = 0;
	int rc, r;

	rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL);
	if (rc != SQLITE_OK) {
		r = store_schema_error(db, rc, directory, "open the database", ret_error);
		goto fail;
	}
	sqlite3_extended_result_codes(db, 1);
	sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	/* Until it is known to be ours: closing it would fold its log into it. */
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	r = check(db, directory, path, &version, ret_error);
	if (r < 0)
		goto fail;
	rc = set_journal(db);
	if (rc == SQLITE_OK)
		rc = migrate(db, version);
	if (rc != SQLITE_OK) {
		r = store_schema_error(db, rc, directory, "prepare the database", ret_error);
		goto fail;
	}
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	*ret = db;
	return 0;
fail:
	sqlite3_close(db);
	return r;
}
