/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_READER_H
#define CPUPOLICYD_STORE_READER_H

/*
 * A second thread of the store, for what only reads and may take long. Each task has a connection to the database of
 * its own, so that it sees one state of it from begin to end and no write waits for it. Tasks run one after the other;
 * the thread is started with the first.
 */

#include <sqlite3.h>
#include <sys/queue.h>

#include "daemon/base/loop.h"

struct store_reader;

enum store_task_state {
	STORE_TASK_GOES_ON,  /* the next step */
	STORE_TASK_DELIVERS, /* first the loop takes what there is */
};

struct store_task {
	/* On the thread. */
	enum store_task_state (*step)(struct store_task *task);
	/* On the loop. false: it has ended. */
	bool (*deliver)(struct store_task *task);
	/* On either: whatever is still open. */
	void (*free)(struct store_task *task);
	struct store_reader *reader;
	TAILQ_ENTRY(store_task) entry;
};

/* `database`: the file's name in `directory`. */
int store_reader_new(struct store_reader **ret, struct loop *loop, const char *directory, const char *database);
/* Waits for the step that runs; tasks are freed, nothing is delivered any more. NULL is accepted, NULL is returned. */
struct store_reader *store_reader_free(struct store_reader *reader);

/* On the loop: takes the task over, on success only. */
int store_reader_start(struct store_reader *reader, struct store_task *task);

/* For tasks, on the thread: a connection that reads, in a transaction. A SQLite result code; *ret is to be closed on
 * failure too. */
int store_reader_open(struct store_reader *reader, sqlite3 **ret);
const char *store_reader_directory(const struct store_reader *reader);

#endif
