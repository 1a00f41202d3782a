/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The copy is made under another name, PATH.partial, and gets its own when it is whole and on disk. The connection that
 * is read from keeps its transaction open, so that the copy is of one moment and need not begin anew with each write.
 */

#include "daemon/store/store_backup.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/store/store_schema.h"
#include "daemon/base/util.h"

#define STEP_PAGES 1024

struct backup {
	struct store_task task; /* first */
	char *path;
	char *partial;
	store_done_fn fn;
	void *userdata;
	sqlite3 *from, *to;
	sqlite3_backup *copy;
	bool made; /* `partial` is ours */
	int error;
	char *why;
};

static void task_free(struct store_task *task)
{
	struct backup *b = (struct backup *)task;

	sqlite3_backup_finish(b->copy);
	sqlite3_close(b->to);
	sqlite3_close(b->from);
	if (b->made)
		unlink(b->partial);
	free(b->partial);
	free(b->path);
	free(b->why);
	free(b);
}

/* ---- the thread ---- */

static enum store_task_state __attribute__((format(printf, 3, 4)))
end(struct backup *b, int error, const char *format, ...)
{
	va_list ap;

	b->error = error;
	va_start(ap, format);
	if (vasprintf(&b->why, format, ap) < 0)
		b->why = NULL;
	va_end(ap);
	return STORE_TASK_DELIVERS;
}

static enum store_task_state end_errno(struct backup *b, const char *path, int error)
{
	return end(b, -error, "cannot write the backup %s: %s", path, strerror(error));
}

static enum store_task_state end_sqlite(struct backup *b, sqlite3 *db, int rc)
{
	b->error = store_schema_error(db, rc, store_reader_directory(b->task.reader), "make a backup", &b->why);
	return STORE_TASK_DELIVERS;
}

/* What the copy cannot be written to is not the state directory. */
static enum store_task_state end_copy(struct backup *b, int rc)
{
	int system = sqlite3_system_errno(b->to);

	switch (rc & 0xff) {
	case SQLITE_FULL:
		return end(b, -ENOSPC, "cannot write the backup %s: the disk is full", b->partial);
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		if (system != 0)
			return end(b, -system, "cannot write the backup %s: %s", b->partial, strerror(system));
		return end(b, -EIO, "cannot write the backup %s: %s", b->partial, sqlite3_errstr(rc));
	default:
		return end_sqlite(b, b->from, rc);
	}
}

/* 0, or the errno value, with which of the two files it is about. */
static int create(struct backup *b, const char **ret_path)
{
	int fd;

	*ret_path = b->path;
	if (access(b->path, F_OK) == 0)
		return EEXIST;
	fd = open(b->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		*ret_path = b->partial;
		return errno;
	}
	close(fd);
	b->made = true;
	return 0;
}

static enum store_task_state begin(struct backup *b)
{
	const char *path;
	int rc = create(b, &path);

	if (rc != 0)
		return end_errno(b, path, rc);
	rc = store_reader_open(b->task.reader, &b->from);
	if (rc != SQLITE_OK)
		return end_sqlite(b, b->from, rc);
	rc = sqlite3_open_v2(b->partial, &b->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(b->to, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return end_copy(b, rc);
	b->copy = sqlite3_backup_init(b->to, "main", b->from, "main");
	if (!b->copy)
		return end_copy(b, sqlite3_errcode(b->to));
	return STORE_TASK_GOES_ON;
}

static int sync_directory(const char *path)
{
	_cleanup_free_ char *copy = strdup(path);
	_cleanup_close_ int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	return fd >= 0 && fsync(fd) == 0 ? 0 : -1;
}

static enum store_task_state finish(struct backup *b)
{
	int rc = sqlite3_backup_finish(TAKE(b->copy));

	/* A copy in one file: the journal that the original has would come with the first who opens it. */
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(b->to, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return end_copy(b, rc);
	sqlite3_close(TAKE(b->to));
	/* RENAME_NOREPLACE is not had by every file system. */
	if (link(b->partial, b->path) < 0)
		return end_errno(b, b->path, errno);
	if (unlink(b->partial) < 0 || sync_directory(b->path) < 0)
		return end_errno(b, b->path, errno);
	b->made = false;
	return STORE_TASK_DELIVERS;
}

static enum store_task_state step(struct store_task *task)
{
	struct backup *b = (struct backup *)task;
	int rc;

	errno = 0;
	if (!b->copy)
		return begin(b);
	rc = sqlite3_backup_step(b->copy, STEP_PAGES);
	if (rc == SQLITE_OK)
		return STORE_TASK_GOES_ON;
	return rc == SQLITE_DONE ? finish(b) : end_copy(b, rc);
}

/* ---- the loop ---- */

static bool deliver(struct store_task *task)
{
	struct backup *b = (struct backup *)task;

	b->fn(b->error, b->error == 0 ? NULL : b->why ? b->why : strerror(-b->error), b->userdata);
	return false;
}

int store_backup_start(struct store_reader *reader, const char *path, store_done_fn fn, void *userdata)
{
	struct backup *b = calloc(1, sizeof(*b));
	int r = -ENOMEM;

	if (!b)
		return r;
	b->task = (struct store_task){.step = step, .deliver = deliver, .free = task_free};
	b->fn = fn;
	b->userdata = userdata;
	b->path = strdup(path);
	if (asprintf(&b->partial, "%s.partial", path) < 0)
		b->partial = NULL;
	if (b->path && b->partial)
		r = store_reader_start(reader, &b->task);
	if (r < 0)
		task_free(&b->task);
	return r;
}
