/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_RECORD_H
#define CPUPOLICYD_STORE_RECORD_H

/* struct store_vm as a row of the table `vm`, and back. Writing and reading use one table of columns. */

#include <sqlite3.h>

#include "daemon/store.h"

/* SQLite result codes. `boot_id`: of this boot of the host, "" if it cannot be known. */
int store_record_prepare_put(sqlite3 *db, sqlite3_stmt **ret);
int store_record_prepare_delete(sqlite3 *db, sqlite3_stmt **ret);
int store_record_put(sqlite3_stmt *put, const struct store_vm *vm, const char *boot_id);
int store_record_delete(sqlite3_stmt *del, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);

int store_record_prepare_load(sqlite3 *db, sqlite3_stmt **ret);
/* From the row that `load` stands on. -EBADMSG: *ret_column names the column that cannot be right; -ENOMEM. */
int store_record_read(sqlite3_stmt *load, struct store_vm *ret, const char *boot_id, const char **ret_column);

#endif
