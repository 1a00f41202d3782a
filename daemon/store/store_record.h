/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_RECORD_H
#define CPUPOLICYD_STORE_RECORD_H

/* Records as rows of the tables `vm`, `usage` and `host`, and back. Writing and reading a VM use one table of columns.
 * */

#include <sqlite3.h>

#include "daemon/store/store.h"

/* Statements for writing. */
struct store_record_sql {
	sqlite3_stmt *put, *del, *usage, *host;
};

/* SQLite result codes. store_record_finalize() is due after failure too. */
int store_record_prepare(sqlite3 *db, struct store_record_sql *ret);
void store_record_finalize(struct store_record_sql *sql);

/* SQLite result codes; each is to run within a transaction. `boot_id`: of this boot of the host, "" if it cannot be
 * known. */
int store_record_put(const struct store_record_sql *sql, const struct store_vm *vm, const char *boot_id);
/* Its usage rows alone: those that ended, and the one that is open. */
int store_record_put_usage(const struct store_record_sql *sql, const struct store_vm *vm);
int store_record_delete(const struct store_record_sql *sql, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);
int store_record_put_host(const struct store_record_sql *sql, const struct store_host *host);

/* SQLite result codes. */
int store_record_prepare_load(sqlite3 *db, sqlite3_stmt **ret);
/* From the row that `load` stands on. -EBADMSG: *ret_column names the column that cannot be right; -ENOMEM. */
int store_record_read(sqlite3_stmt *load, struct store_vm *ret, const char *boot_id, const char **ret_column);
/* A SQLite result code; *ret_column names a column that cannot be right, else it is NULL. */
int store_record_load_host(sqlite3 *db, struct store_host *ret, const char **ret_column);

#endif
