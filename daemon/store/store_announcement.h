/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_ANNOUNCEMENT_H
#define CPUPOLICYD_STORE_ANNOUNCEMENT_H

/* What providers said of VMs, as rows of the table `announcement`. */

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cpupolicy-proto.h"

#define STORE_ANNOUNCEMENT_ANY_UID UINT32_MAX

struct store_announcement {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	char *provider; /* its name; NULL in what is to be written: there is none of this UUID any more */
	char *name;     /* NULL: not said, as the next three */
	char *label;
	char *class;
	char *tenant;
	uint32_t uid;     /* of the VMM; STORE_ANNOUNCEMENT_ANY_UID */
	uint32_t desired; /* 0: not said */
	bool quota;       /* the provider can hold its CPU time */
};

void store_announcement_clear(struct store_announcement *announcement);
/* Frees the list as well. */
void store_announcements_free(struct store_announcement *list, size_t n);

struct store_announcement_sql {
	sqlite3_stmt *put, *del;
};

/* SQLite result codes. store_announcement_finalize() is due after failure too. */
int store_announcement_prepare(sqlite3 *db, struct store_announcement_sql *ret);
void store_announcement_finalize(struct store_announcement_sql *sql);
/* Within a transaction: each replaces what was there, or removes it. */
int store_announcement_write(const struct store_announcement_sql *sql, const struct store_announcement *list, size_t n);

/* Each in order of UUID; fn returns < 0 to stop, and takes what it wants out of it. A SQLite result code, or what fn
 * returned; -EBADMSG: *ret_column names a column that cannot be right. */
int store_announcement_load(sqlite3 *db, int (*fn)(struct store_announcement *announcement, void *userdata),
			    void *userdata, const char **ret_column, int *ret_rc);

#endif
