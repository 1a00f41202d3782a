/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/store/store_announcement.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/util.h"
#include "proto/text.h"

#define COLUMNS "uuid, provider, name, uid, label, class, tenant, desired, quota"

static const char *const column_names[] = {"uuid",  "provider", "name",    "uid",  "label",
					   "class", "tenant",   "desired", "quota"};

enum column {
	COLUMN_UUID,
	COLUMN_PROVIDER,
	COLUMN_NAME,
	COLUMN_UID,
	COLUMN_LABEL,
	COLUMN_CLASS,
	COLUMN_TENANT,
	COLUMN_DESIRED,
	COLUMN_QUOTA,
};

void store_announcement_clear(struct store_announcement *announcement)
{
	free(announcement->provider);
	free(announcement->name);
	free(announcement->label);
	free(announcement->class);
	free(announcement->tenant);
	*announcement = (struct store_announcement){0};
}

void store_announcements_free(struct store_announcement *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		store_announcement_clear(&list[i]);
	free(list);
}

/* ---- writing ---- */

int store_announcement_prepare(sqlite3 *db, struct store_announcement_sql *ret)
{
	static const char put[] =
		"INSERT OR REPLACE INTO announcement (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
	static const char del[] = "DELETE FROM announcement WHERE uuid = ?";
	int rc = sqlite3_prepare_v3(db, put, -1, SQLITE_PREPARE_PERSISTENT, &ret->put, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(db, del, -1, SQLITE_PREPARE_PERSISTENT, &ret->del, NULL);
	return rc;
}

void store_announcement_finalize(struct store_announcement_sql *sql)
{
	sqlite3_finalize(sql->put);
	sqlite3_finalize(sql->del);
}

/* What could not be bound is NULL, and the columns that must be there do not take that. */
static void bind_all(sqlite3_stmt *s, const struct store_announcement *a)
{
	sqlite3_bind_blob(s, COLUMN_UUID + 1, a->uuid, sizeof(a->uuid), SQLITE_STATIC);
	sqlite3_bind_text(s, COLUMN_PROVIDER + 1, a->provider, -1, SQLITE_STATIC);
	sqlite3_bind_text(s, COLUMN_NAME + 1, a->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, COLUMN_UID + 1, a->uid);
	sqlite3_bind_text(s, COLUMN_LABEL + 1, a->label, -1, SQLITE_STATIC);
	sqlite3_bind_text(s, COLUMN_CLASS + 1, a->class, -1, SQLITE_STATIC);
	sqlite3_bind_text(s, COLUMN_TENANT + 1, a->tenant, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, COLUMN_DESIRED + 1, a->desired);
	sqlite3_bind_int(s, COLUMN_QUOTA + 1, a->quota);
}

static int write_one(const struct store_announcement_sql *sql, const struct store_announcement *a)
{
	sqlite3_stmt *s = a->provider ? sql->put : sql->del;
	int rc;

	if (a->provider)
		bind_all(s, a);
	else
		sqlite3_bind_blob(s, 1, a->uuid, sizeof(a->uuid), SQLITE_STATIC);
	rc = sqlite3_step(s);
	sqlite3_reset(s);
	/* What was bound is the caller's memory. */
	sqlite3_clear_bindings(s);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int store_announcement_write(const struct store_announcement_sql *sql, const struct store_announcement *list, size_t n)
{
	int rc = SQLITE_OK;

	for (size_t i = 0; rc == SQLITE_OK && i < n; i++)
		rc = write_one(sql, &list[i]);
	return rc;
}

/* ---- reading: what the file says is checked, it may have been edited ---- */

static int read_uuid(sqlite3_stmt *s, uint8_t to[CPUPOLICY_UUID_SIZE])
{
	const void *bytes = sqlite3_column_blob(s, COLUMN_UUID);

	if (!bytes || sqlite3_column_bytes(s, COLUMN_UUID) != CPUPOLICY_UUID_SIZE)
		return -EBADMSG;
	memcpy(to, bytes, CPUPOLICY_UUID_SIZE);
	return 0;
}

static int read_number(sqlite3_stmt *s, int i, uint32_t most, uint32_t *to)
{
	sqlite3_int64 n = sqlite3_column_int64(s, i);

	if (sqlite3_column_type(s, i) != SQLITE_INTEGER || n < 0 || n > most)
		return -EBADMSG;
	*to = (uint32_t)n;
	return 0;
}

static int read_text(sqlite3_stmt *s, int i, bool name, char **to)
{
	const char *text = (const char *)sqlite3_column_text(s, i), *why;

	if (sqlite3_column_type(s, i) == SQLITE_NULL && i != COLUMN_PROVIDER)
		return 0;
	if (!text || (name && cpupolicy_text_check_name(text, &why) < 0))
		return -EBADMSG;
	*to = strdup(text);
	return *to ? 0 : -ENOMEM;
}

static int read_column(sqlite3_stmt *s, int i, struct store_announcement *a)
{
	uint32_t quota = 0;
	int r;

	switch ((enum column)i) {
	case COLUMN_UUID:
		return read_uuid(s, a->uuid);
	case COLUMN_PROVIDER:
		return read_text(s, i, true, &a->provider);
	case COLUMN_NAME:
		return read_text(s, i, true, &a->name);
	case COLUMN_UID:
		return read_number(s, i, UINT32_MAX, &a->uid);
	case COLUMN_LABEL:
		return read_text(s, i, false, &a->label);
	case COLUMN_CLASS:
		return read_text(s, i, true, &a->class);
	case COLUMN_TENANT:
		return read_text(s, i, true, &a->tenant);
	case COLUMN_DESIRED:
		return read_number(s, i, UINT32_MAX, &a->desired);
	case COLUMN_QUOTA:
		r = read_number(s, i, 1, &quota);
		a->quota = quota != 0;
		return r;
	}
	return -EBADMSG;
}

static int load_row(sqlite3_stmt *s, int (*fn)(struct store_announcement *announcement, void *userdata), void *userdata,
		    const char **ret_column)
{
	struct store_announcement a = {0};
	int r = 0;

	for (int i = 0; r >= 0 && i < (int)ARRAY_SIZE(column_names); i++) {
		r = read_column(s, i, &a);
		if (r == -EBADMSG)
			*ret_column = column_names[i];
	}
	if (r >= 0)
		r = fn(&a, userdata);
	store_announcement_clear(&a);
	return r;
}

int store_announcement_load(sqlite3 *db, int (*fn)(struct store_announcement *announcement, void *userdata),
			    void *userdata, const char **ret_column, int *ret_rc)
{
	sqlite3_stmt *load = NULL;
	int rc, r = 0;

	rc = sqlite3_prepare_v2(db, "SELECT " COLUMNS " FROM announcement ORDER BY uuid", -1, &load, NULL);
	if (rc == SQLITE_OK) {
		while (r >= 0 && (rc = sqlite3_step(load)) == SQLITE_ROW)
			r = load_row(load, fn, userdata, ret_column);
		rc = r < 0 || rc == SQLITE_DONE ? SQLITE_OK : rc;
	}
	sqlite3_finalize(load);
	*ret_rc = rc;
	return r;
}
