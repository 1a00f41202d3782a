/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_SCHEMA_H
#define CPUPOLICYD_STORE_SCHEMA_H

/* The database file: opened, checked, brought to the present schema; and SQLite's errors as sentences. */

#include <sqlite3.h>

/*
 * Opens the existing file `path`, which may be empty, in `directory`. -EBADMSG: damaged, or not ours; -ENOTSUP: written
 * by a newer version; -EROFS: it cannot be written. Nothing is changed on failure. *ret_error is a message to print
 * and free, or NULL if there is no memory for one.
 */
int store_schema_open(sqlite3 **ret, const char *directory, const char *path, char **ret_error);

/*
 * The negative errno value that `rc`, the result of the last call on `db`, stands for. *ret_why says why `what`
 * ("record the VM web1") could not be done; NULL if there is no memory for that. Where errno was 0 before that call,
 * the error is more precise.
 */
int store_schema_error(sqlite3 *db, int rc, const char *directory, const char *what, char **ret_why);

#endif
