/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Under `mutex`: waiting, done, closing. A task is in one of these lists, or in the hands of the thread or the loop. */

#include "daemon/store/store_reader.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "daemon/base/util.h"

#define BUSY_TIMEOUT_MS 5000

TAILQ_HEAD(task_list, store_task);

struct store_reader {
	char *directory;
	char *path;
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake; /* waiting or closing changed */
	struct task_list waiting;
	struct task_list done;
	bool closing;
	int done_fd; /* an eventfd: `done` has something */
	struct loop_io *done_io;
};

/* ---- the thread ---- */

static void announce_done(struct store_reader *reader)
{
	uint64_t one = 1;

	/* It fails only with EAGAIN, at a count of 2^64 - 2: then it is readable anyway. */
	if (write(reader->done_fd, &one, sizeof(one)) < 0)
		return;
}

static void *reader_thread(void *userdata)
{
	struct store_reader *reader = userdata;

	pthread_mutex_lock(&reader->mutex);
	for (;;) {
		struct store_task *task;
		enum store_task_state state;

		while (TAILQ_EMPTY(&reader->waiting) && !reader->closing)
			pthread_cond_wait(&reader->wake, &reader->mutex);
		if (reader->closing)
			break;
		task = TAILQ_FIRST(&reader->waiting);
		TAILQ_REMOVE(&reader->waiting, task, entry);
		pthread_mutex_unlock(&reader->mutex);

		state = task->step(task);

		pthread_mutex_lock(&reader->mutex);
		if (state == STORE_TASK_DELIVERS) {
			TAILQ_INSERT_TAIL(&reader->done, task, entry);
			announce_done(reader);
		} else {
			TAILQ_INSERT_HEAD(&reader->waiting, task, entry);
		}
	}
	pthread_mutex_unlock(&reader->mutex);
	return NULL;
}

/* Signals are the loop's. */
static int start_thread(struct store_reader *reader)
{
	sigset_t all, old;
	int r;

	if (reader->has_thread)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&reader->thread, NULL, reader_thread, reader);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	reader->has_thread = true;
	return 0;
}

int store_reader_open(struct store_reader *reader, sqlite3 **ret)
{
	int rc = sqlite3_open_v2(reader->path, ret, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_extended_result_codes(*ret, 1);
	sqlite3_busy_timeout(*ret, BUSY_TIMEOUT_MS);
	sqlite3_db_config(*ret, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	/* The transaction begins with the first reading. */
	return sqlite3_exec(*ret, "BEGIN; SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
}

const char *store_reader_directory(const struct store_reader *reader)
{
	return reader->directory;
}

/* ---- the loop's side ---- */

static void queue(struct store_reader *reader, struct store_task *task)
{
	pthread_mutex_lock(&reader->mutex);
	TAILQ_INSERT_TAIL(&reader->waiting, task, entry);
	pthread_cond_signal(&reader->wake);
	pthread_mutex_unlock(&reader->mutex);
}

static void on_done(int fd, unsigned events, void *userdata)
{
	struct store_reader *reader = userdata;
	struct task_list done = TAILQ_HEAD_INITIALIZER(done);
	struct store_task *task;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return; /* EAGAIN: an earlier call has taken them */
	/* What comes meanwhile is for the next turn: the thread may be as fast as the loop. */
	pthread_mutex_lock(&reader->mutex);
	TAILQ_CONCAT(&done, &reader->done, entry);
	pthread_mutex_unlock(&reader->mutex);
	while ((task = TAILQ_FIRST(&done))) {
		TAILQ_REMOVE(&done, task, entry);
		if (task->deliver(task))
			queue(reader, task);
		else
			task->free(task);
	}
}

int store_reader_start(struct store_reader *reader, struct store_task *task)
{
	int r = start_thread(reader);

	if (r < 0)
		return r;
	task->reader = reader;
	queue(reader, task);
	return 0;
}

int store_reader_new(struct store_reader **ret, struct loop *loop, const char *directory, const char *database)
{
	struct store_reader *reader = calloc(1, sizeof(*reader));
	int r;

	if (!reader)
		return -ENOMEM;
	TAILQ_INIT(&reader->waiting);
	TAILQ_INIT(&reader->done);
	pthread_mutex_init(&reader->mutex, NULL);
	pthread_cond_init(&reader->wake, NULL);
	reader->directory = strdup(directory);
	if (asprintf(&reader->path, "%s/%s", directory, database) < 0)
		reader->path = NULL;
	reader->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = reader->done_fd < 0 ? -errno : 0;
	if (r >= 0)
		r = reader->directory && reader->path ? 0 : -ENOMEM;
	if (r >= 0)
		r = loop_io_new(&reader->done_io, loop, reader->done_fd, LOOP_READ, on_done, reader);
	if (r < 0) {
		store_reader_free(reader);
		return r;
	}
	*ret = reader;
	return 0;
}

static void free_tasks(struct task_list *list)
{
	struct store_task *task;

	while ((task = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, task, entry);
		task->free(task);
	}
}

struct store_reader *store_reader_free(struct store_reader *reader)
{
	if (!reader)
		return NULL;
	if (reader->has_thread) {
		pthread_mutex_lock(&reader->mutex);
		reader->closing = true;
		pthread_cond_signal(&reader->wake);
		pthread_mutex_unlock(&reader->mutex);
		pthread_join(reader->thread, NULL);
	}
	loop_io_free(reader->done_io);
	if (reader->done_fd >= 0)
		close(reader->done_fd);
	free_tasks(&reader->waiting);
	free_tasks(&reader->done);
	pthread_cond_destroy(&reader->wake);
	pthread_mutex_destroy(&reader->mutex);
	free(reader->path);
	free(reader->directory);
	free(reader);
	return NULL;
}
