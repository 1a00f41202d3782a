/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Two threads. The loop's thread queues requests and runs their callbacks; the writer takes the whole queue at a time,
 * writes it as one transaction and hands it back with the outcome. Under `mutex`: queue, index, done, closing. After
 * store_open() only the writer uses the database, but for loading, which runs while nothing is queued. Queries and
 * backups have a thread of their own, so that a long one delays no write: see store_reader.h.
 */

#include "daemon/store/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <search.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "daemon/store/store_announcement.h"
#include "daemon/store/store_backup.h"
#include "daemon/store/store_reader.h"
#include "daemon/store/store_record.h"
#include "daemon/store/store_schema.h"
#include "daemon/store/store_usage.h"
#include "daemon/base/util.h"

#define DATABASE "state.db"
#define LOCK     "lock"

struct waiter {
	store_done_fn fn;
	void *userdata;
	STAILQ_ENTRY(waiter) entry;
};

/* The host's modes are queued like the record of a VM, under the UUID that no VM has. */
static const uint8_t host_uuid[CPUPOLICY_UUID_SIZE];

enum request_kind {
	REQUEST_PUT,
	REQUEST_DELETE,
	REQUEST_HOST,
	REQUEST_ANNOUNCE, /* not in the index: each is written */
};

struct request {
	uint8_t uuid[CPUPOLICY_UUID_SIZE]; /* first: the index compares from here */
	enum request_kind kind;
	struct store_vm vm; /* DELETE: whatever waited to be written, of which the usage still is */
	struct store_host host;
	struct store_announcement *announcements;
	size_t n_announcements;
	STAILQ_HEAD(, waiter) waiters;
	TAILQ_ENTRY(request) entry;
	int error;
	char *why;
};

TAILQ_HEAD(request_list, request);

struct store {
	char *directory;
	char *boot_id;
	int lock_fd;
	sqlite3 *db;
	struct store_record_sql sql;
	struct store_announcement_sql announcement_sql;
	struct store_reader *reader;

	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake; /* the writer: queue or closing changed */
	struct request_list queue;
	void *index; /* of the queue by UUID, for tsearch() */
	struct request_list done;
	bool closing;

	int done_fd; /* an eventfd: `done` has something */
	struct loop_io *done_io;
	size_t waiting; /* requests, of the loop's thread */
	loop_fn idle_fn;
	void *idle_data;
};

/* ---- requests ---- */

static void request_free(struct request *request)
{
	struct waiter *waiter;

	while ((waiter = STAILQ_FIRST(&request->waiters))) {
		STAILQ_REMOVE_HEAD(&request->waiters, entry);
		free(waiter);
	}
	store_vm_clear(&request->vm);
	store_announcements_free(request->announcements, request->n_announcements);
	free(request->why);
	free(request);
}

static void request_list_free(struct request_list *list)
{
	struct request *request;

	while ((request = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, request, entry);
		request_free(request);
	}
}

static int compare_uuids(const void *a, const void *b)
{
	return memcmp(a, b, CPUPOLICY_UUID_SIZE);
}

static void leave_alone(void *request)
{
}

/* ---- the writer ---- */

static int write_request(struct store *store, const struct request *request)
{
	int rc;

	switch (request->kind) {
	case REQUEST_PUT:
		return store_record_put(&store->sql, &request->vm, store->boot_id);
	case REQUEST_HOST:
		return store_record_put_host(&store->sql, &request->host);
	case REQUEST_ANNOUNCE:
		return store_announcement_write(&store->announcement_sql, request->announcements,
						request->n_announcements);
	case REQUEST_DELETE:
		break;
	}
	rc = store_record_put_usage(&store->sql, &request->vm);
	return rc == SQLITE_OK ? store_record_delete(&store->sql, request->uuid) : rc;
}

static void set_error(struct store *store, struct request *request, int rc)
{
	char what[CPUPOLICY_NAME_SIZE + 64];

	if (request->kind == REQUEST_DELETE)
		snprintf(what, sizeof(what), "delete the record of a VM");
	else if (request->kind == REQUEST_HOST)
		snprintf(what, sizeof(what), "record the state of the host");
	else if (request->kind == REQUEST_ANNOUNCE)
		snprintf(what, sizeof(what), "record what is announced");
	else
		snprintf(what, sizeof(what), "record the VM %s", request->vm.name);
	request->error = store_schema_error(store->db, rc, store->directory, what, &request->why);
}

static void roll_back(struct store *store)
{
	/* Some errors have done so already. */
	if (!sqlite3_get_autocommit(store->db))
		sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
}

/* All of the batch in one transaction, or `only` that one. */
static int write_together(struct store *store, struct request_list *batch, const struct request *only)
{
	struct request *request;
	int rc;

	errno = 0;
	rc = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	TAILQ_FOREACH(request, batch, entry) {
		if (rc != SQLITE_OK)
			break;
		if (!only || request == only)
			rc = write_request(store, request);
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
	return rc;
}

static void write_alone(struct store *store, struct request_list *batch, struct request *request)
{
	int rc = write_together(store, batch, request);

	if (rc == SQLITE_OK)
		return;
	set_error(store, request, rc);
	roll_back(store);
}

/* No record is to blame, and each alone would take as long again to fail. */
static bool fails_all(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_IOERR:
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return true;
	default:
		return false;
	}
}

static void write_batch(struct store *store, struct request_list *batch)
{
	struct request *request;
	int rc = write_together(store, batch, NULL);

	if (rc == SQLITE_OK)
		return;
	if (fails_all(rc)) {
		TAILQ_FOREACH(request, batch, entry)
			set_error(store, request, rc);
		roll_back(store);
		return;
	}
	roll_back(store);
	/* One record that cannot be written is no reason to fail the others. */
	TAILQ_FOREACH(request, batch, entry)
		write_alone(store, batch, request);
}

static void announce_done(struct store *store)
{
	uint64_t one = 1;

	/* It fails only with EAGAIN, at a count of 2^64 - 2: then it is readable anyway. */
	if (write(store->done_fd, &one, sizeof(one)) < 0)
		return;
}

static void *writer(void *userdata)
{
	struct store *store = userdata;

	pthread_mutex_lock(&store->mutex);
	for (;;) {
		struct request_list batch = TAILQ_HEAD_INITIALIZER(batch);

		while (TAILQ_EMPTY(&store->queue) && !store->closing)
			pthread_cond_wait(&store->wake, &store->mutex);
		if (TAILQ_EMPTY(&store->queue))
			break;
		TAILQ_CONCAT(&batch, &store->queue, entry);
		tdestroy(TAKE(store->index), leave_alone);
		pthread_mutex_unlock(&store->mutex);

		write_batch(store, &batch);

		pthread_mutex_lock(&store->mutex);
		TAILQ_CONCAT(&store->done, &batch, entry);
		announce_done(store);
	}
	pthread_mutex_unlock(&store->mutex);
	return NULL;
}

/* Signals are the loop's. */
static int start_writer(struct store *store)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&store->thread, NULL, writer, store);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	store->has_thread = true;
	return 0;
}

/* ---- the loop's side ---- */

static void on_done(int fd, unsigned events, void *userdata)
{
	struct store *store = userdata;
	struct request_list done = TAILQ_HEAD_INITIALIZER(done);
	struct request *request;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return; /* EAGAIN: an earlier call has taken them */
	pthread_mutex_lock(&store->mutex);
	TAILQ_CONCAT(&done, &store->done, entry);
	pthread_mutex_unlock(&store->mutex);
	while ((request = TAILQ_FIRST(&done))) {
		const char *why = request->error == 0 ? NULL : request->why ? request->why : strerror(-request->error);
		struct waiter *waiter;

		STAILQ_FOREACH(waiter, &request->waiters, entry)
			waiter->fn(request->error, why, waiter->userdata);
		TAILQ_REMOVE(&done, request, entry);
		request_free(request);
		store->waiting--;
	}
	if (store->waiting == 0 && store->idle_fn)
		store->idle_fn(store->idle_data);
}

bool store_is_idle(const struct store *store)
{
	return store->waiting == 0;
}

void store_on_idle(struct store *store, loop_fn fn, void *userdata)
{
	store->idle_fn = fn;
	store->idle_data = userdata;
}

/* The request for `uuid` that still waits, or a new one that does. Under the mutex. */
static struct request *queue_request(struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	void *node = tfind(uuid, &store->index, compare_uuids);
	struct request *request;

	if (node)
		return *(struct request **)node;
	request = calloc(1, sizeof(*request));
	if (!request)
		return NULL;
	memcpy(request->uuid, uuid, CPUPOLICY_UUID_SIZE);
	STAILQ_INIT(&request->waiters);
	if (!tsearch(request, &store->index, compare_uuids)) {
		free(request);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&store->queue, request, entry);
	store->waiting++;
	pthread_cond_signal(&store->wake);
	return request;
}

static bool is_row(const struct usage_row *a, const struct usage_row *b)
{
	return a->number == b->number && a->begin == b->begin;
}

/* Whether `vm` brings this row itself, in a state that is newer. */
static bool has_row(const struct store_vm *vm, const struct usage_row *row)
{
	for (size_t i = 0; i < vm->n_usage; i++)
		if (is_row(&vm->usage[i].row, row))
			return true;
	return is_row(&vm->meters.row, row);
}

static int carry_row(struct store_vm *vm, const struct usage_row *row, const char *class, const char *tenant)
{
	if (row->number == 0 || has_row(vm, row))
		return 0;
	return store_vm_add_usage(vm, row, class ? class : "", tenant);
}

/* The usage that `old` was to write goes with `new`. On failure `new` may have some of it, which does no harm. */
static int carry_usage(const struct store_vm *old, struct store_vm *new)
{
	int r = carry_row(new, &old->meters.row, old->class, old->tenant);

	for (size_t i = 0; r >= 0 && i < old->n_usage; i++)
		r = carry_row(new, &old->usage[i].row, old->usage[i].class, old->usage[i].tenant);
	return r;
}

static int enqueue_record(struct request *request, struct store_vm *vm)
{
	int r = carry_usage(&request->vm, vm);

	if (r < 0)
		return r;
	store_vm_clear(&request->vm);
	request->kind = REQUEST_PUT;
	request->vm = *vm;
	*vm = (struct store_vm){0};
	return 0;
}

/* `vm`: to put; `host` the same; neither: delete. */
static int enqueue(struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE], struct store_vm *vm,
		   const struct store_host *host, store_done_fn fn, void *userdata)
{
	struct waiter *waiter = malloc(sizeof(*waiter));
	struct request *request;
	int r = 0;

	if (!waiter)
		return -ENOMEM;
	*waiter = (struct waiter){.fn = fn, .userdata = userdata};
	pthread_mutex_lock(&store->mutex);
	request = queue_request(store, uuid);
	if (!request) {
		r = -ENOMEM;
	} else if (vm) {
		r = enqueue_record(request, vm);
	} else if (host) {
		request->kind = REQUEST_HOST;
		request->host = *host;
	} else {
		request->kind = REQUEST_DELETE;
	}
	if (r >= 0)
		STAILQ_INSERT_TAIL(&request->waiters, waiter, entry);
	pthread_mutex_unlock(&store->mutex);
	if (r < 0)
		free(waiter);
	return r;
}

int store_put(struct store *store, struct store_vm *vm, store_done_fn fn, void *userdata)
{
	/* A copy: clearing what waits for that VM must not clear the key. */
	uint8_t uuid[CPUPOLICY_UUID_SIZE];

	memcpy(uuid, vm->uuid, sizeof(uuid));
	return enqueue(store, uuid, vm, NULL, fn, userdata);
}

int store_delete(struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE], store_done_fn fn, void *userdata)
{
	return enqueue(store, uuid, NULL, NULL, fn, userdata);
}

int store_put_host(struct store *store, const struct store_host *host, store_done_fn fn, void *userdata)
{
	return enqueue(store, host_uuid, NULL, host, fn, userdata);
}

int store_put_announcements(struct store *store, struct store_announcement *list, size_t n, store_done_fn fn,
			    void *userdata)
{
	struct request *request = calloc(1, sizeof(*request));
	struct waiter *waiter = malloc(sizeof(*waiter));

	if (!request || !waiter) {
		free(request);
		free(waiter);
		return -ENOMEM;
	}
	*waiter = (struct waiter){.fn = fn, .userdata = userdata};
	request->kind = REQUEST_ANNOUNCE;
	request->announcements = list;
	request->n_announcements = n;
	STAILQ_INIT(&request->waiters);
	STAILQ_INSERT_TAIL(&request->waiters, waiter, entry);
	pthread_mutex_lock(&store->mutex);
	TAILQ_INSERT_TAIL(&store->queue, request, entry);
	pthread_cond_signal(&store->wake);
	pthread_mutex_unlock(&store->mutex);
	return 0;
}

int store_usage_query(struct store *store, const struct store_usage_filter *filter, store_usage_fn fn, void *userdata)
{
	return store_usage_start(store->reader, filter, fn, userdata);
}

int store_backup(struct store *store, const char *path, store_done_fn fn, void *userdata)
{
	return store_backup_start(store->reader, path, fn, userdata);
}

/* ---- loading ---- */

static int load_row(struct store *store, sqlite3_stmt *load, int (*fn)(struct store_vm *vm, void *userdata),
		    void *userdata, char **ret_error)
{
	struct store_vm vm;
	const char *column = NULL;
	int r = store_record_read(load, &vm, store->boot_id, &column);

	if (r == -EBADMSG && asprintf(ret_error, "the database in %s is damaged: the record of a VM has a bad %s",
				      store->directory, column) < 0)
		*ret_error = NULL;
	if (r < 0)
		return r;
	r = fn(&vm, userdata);
	store_vm_clear(&vm);
	return r;
}

int store_load(struct store *store, int (*fn)(struct store_vm *vm, void *userdata), void *userdata, char **ret_error)
{
	sqlite3_stmt *load = NULL;
	int rc, r = 0;

	*ret_error = NULL;
	rc = store_record_prepare_load(store->db, &load);
	if (rc == SQLITE_OK) {
		while (r >= 0 && (rc = sqlite3_step(load)) == SQLITE_ROW)
			r = load_row(store, load, fn, userdata, ret_error);
		if (r >= 0 && rc != SQLITE_DONE)
			r = store_schema_error(store->db, rc, store->directory, "read the records", ret_error);
	} else {
		r = store_schema_error(store->db, rc, store->directory, "read the records", ret_error);
	}
	sqlite3_finalize(load);
	return r < 0 ? r : 0;
}

int store_load_host(struct store *store, struct store_host *ret, char **ret_error)
{
	struct store_host host;
	const char *column;
	int rc = store_record_load_host(store->db, &host, &column);

	*ret_error = NULL;
	if (rc != SQLITE_OK)
		return store_schema_error(store->db, rc, store->directory, "read the state of the host", ret_error);
	if (column) {
		if (asprintf(ret_error, "the database in %s is damaged: the state of the host has a bad %s",
			     store->directory, column) < 0)
			*ret_error = NULL;
		return -EBADMSG;
	}
	*ret = host;
	return 0;
}

int store_load_announcements(struct store *store, int (*fn)(struct store_announcement *announcement, void *userdata),
			     void *userdata, char **ret_error)
{
	const char *column = NULL;
	int rc, r = store_announcement_load(store->db, fn, userdata, &column, &rc);

	*ret_error = NULL;
	if (rc != SQLITE_OK)
		return store_schema_error(store->db, rc, store->directory, "read what is announced", ret_error);
	if (r == -EBADMSG && column &&
	    asprintf(ret_error, "the database in %s is damaged: an announcement has a bad %s", store->directory,
		     column) < 0)
		*ret_error = NULL;
	return r < 0 ? r : 0;
}

/* ---- opening ---- */

static int __attribute__((format(printf, 3, 4))) say(int r, char **ret, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (vasprintf(ret, format, ap) < 0)
		*ret = NULL;
	va_end(ap);
	return r;
}

static int open_directory(const char *directory, int *ret, char **ret_error)
{
	int fd;

	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return say(-errno, ret_error, "cannot create the state directory %s: %m", directory);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return say(-errno, ret_error, "cannot open the state directory %s: %m", directory);
	*ret = fd;
	return 0;
}

/* Who has the lock, for the error; 0 if it does not say. */
static intmax_t lock_holder(int fd)
{
	char text[32];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return strtoimax(text, NULL, 10);
}

static int take_lock(int directory_fd, const char *directory, int *ret, char **ret_error)
{
	_cleanup_close_ int fd = openat(directory_fd, LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return say(-errno, ret_error, "cannot open %s/" LOCK ": %m", directory);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		intmax_t pid;

		if (errno != EWOULDBLOCK)
			return say(-errno, ret_error, "cannot lock %s/" LOCK ": %m", directory);
		pid = lock_holder(fd);
		if (pid > 0)
			return say(-EBUSY, ret_error, "another cpupolicyd (pid %jd) uses the state directory %s", pid,
				   directory);
		return say(-EBUSY, ret_error, "another cpupolicyd uses the state directory %s", directory);
	}
	/* The lock is what counts; the number is for the error above, and a full disk may leave it out. */
	if (ftruncate(fd, 0) == 0)
		dprintf(fd, "%jd\n", (intmax_t)getpid());
	*ret = take_fd(&fd);
	return 0;
}

/* SQLite would create it with the umask's mode; its other files take that of this one. */
static int create_database(int directory_fd, const char *directory, char **ret_error)
{
	_cleanup_close_ int fd = openat(directory_fd, DATABASE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 && errno == EEXIST)
		return 0;
	if (fd < 0 || fsync(directory_fd) < 0)
		return say(-errno, ret_error, "cannot create %s/" DATABASE ": %m", directory);
	return 0;
}

static char *read_boot_id(void)
{
	_cleanup_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[64];
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return strdup(text);
}

static int open_database(struct store *store, char **ret_error)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *path = NULL;
	int rc, r;

	if (asprintf(&path, "%s/" DATABASE, store->directory) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = open_directory(store->directory, &fd, ret_error);
	if (r >= 0)
		r = take_lock(fd, store->directory, &store->lock_fd, ret_error);
	if (r >= 0)
		r = create_database(fd, store->directory, ret_error);
	if (r >= 0)
		r = store_schema_open(&store->db, store->directory, path, ret_error);
	if (r < 0)
		return r;
	rc = store_record_prepare(store->db, &store->sql);
	if (rc == SQLITE_OK)
		rc = store_announcement_prepare(store->db, &store->announcement_sql);
	if (rc != SQLITE_OK)
		return store_schema_error(store->db, rc, store->directory, "prepare the database", ret_error);
	return 0;
}

static int start(struct store *store, struct loop *loop)
{
	int r;

	store->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (store->done_fd < 0)
		return -errno;
	r = loop_io_new(&store->done_io, loop, store->done_fd, LOOP_READ, on_done, store);
	if (r >= 0)
		r = store_reader_new(&store->reader, loop, store->directory, DATABASE);
	if (r < 0)
		return r;
	return start_writer(store);
}

int store_open(struct store **ret, struct loop *loop, const char *directory, char **ret_error)
{
	struct store *store = calloc(1, sizeof(*store));
	int r;

	*ret_error = NULL;
	if (!store)
		return -ENOMEM;
	store->lock_fd = -1;
	store->done_fd = -1;
	TAILQ_INIT(&store->queue);
	TAILQ_INIT(&store->done);
	pthread_mutex_init(&store->mutex, NULL);
	pthread_cond_init(&store->wake, NULL);
	store->directory = strdup(directory);
	store->boot_id = read_boot_id();
	r = store->directory && store->boot_id ? open_database(store, ret_error) : -ENOMEM;
	if (r >= 0) {
		r = start(store, loop);
		if (r < 0 && r != -ENOMEM)
			say(r, ret_error, "cannot start the thread that writes to %s: %s", directory, strerror(-r));
	}
	if (r < 0) {
		store_close(store);
		return r;
	}
	*ret = store;
	return 0;
}

struct store *store_close(struct store *store)
{
	if (!store)
		return NULL;
	if (store->has_thread) {
		pthread_mutex_lock(&store->mutex);
		store->closing = true;
		pthread_cond_signal(&store->wake);
		pthread_mutex_unlock(&store->mutex);
		pthread_join(store->thread, NULL);
	}
	store_reader_free(store->reader);
	loop_io_free(store->done_io);
	if (store->done_fd >= 0)
		close(store->done_fd);
	request_list_free(&store->done);
	store_record_finalize(&store->sql);
	store_announcement_finalize(&store->announcement_sql);
	sqlite3_close(store->db);
	/* Last: nobody else may open the database before. */
	if (store->lock_fd >= 0)
		close(store->lock_fd);
	pthread_cond_destroy(&store->wake);
	pthread_mutex_destroy(&store->mutex);
	free(store->boot_id);
	free(store->directory);
	free(store);
	return NULL;
}
