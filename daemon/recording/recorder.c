/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Two buffers: lines go into one while the thread writes the other. The thread is woken at the end of a turn of the
 * loop, not by each line. Under `mutex`: filling, closing, error; `writing` is the thread's.
 */

#include "daemon/recording/recorder.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "daemon/recording/recording.h"
#include "daemon/base/util.h"

#define BUFFER_SIZE (4u << 20)

struct recorder {
	char *path;
	int fd;
	recorder_ended_fn fn;
	void *userdata;
	struct loop_deferred *wake_up;
	struct loop_deferred *tell;
	struct loop_io *failed_io;
	int failed_fd; /* an eventfd: the thread met an error */
	bool ended;    /* takes nothing more ... */
	bool told;     /* ... and `fn` has run */

	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake; /* filling or closing changed */
	struct recording_text filling;
	struct recording_text writing;
	bool closing;
	int error; /* negative errno; the recording has ended */
};

/* ---- the thread ---- */

static int write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* So that the file ends with a whole line. What cannot be cut off is one that the reader refuses. */
static void cut(int fd, off_t size)
{
	if (ftruncate(fd, size) < 0)
		return;
}

static void swap(struct recording_text *a, struct recording_text *b)
{
	struct recording_text t = *a;

	*a = *b;
	*b = t;
}

static void *writer(void *userdata)
{
	struct recorder *r = userdata;
	uint64_t one = 1;
	off_t size = 0;

	pthread_mutex_lock(&r->mutex);
	while (r->error == 0) {
		int error;

		while (r->filling.size == 0 && !r->closing)
			pthread_cond_wait(&r->wake, &r->mutex);
		if (r->filling.size == 0)
			break;
		swap(&r->filling, &r->writing);
		pthread_mutex_unlock(&r->mutex);

		error = write_all(r->fd, r->writing.data, r->writing.size);
		if (error < 0)
			cut(r->fd, size);
		size += (off_t)r->writing.size;
		r->writing.size = 0;

		pthread_mutex_lock(&r->mutex);
		r->error = error;
	}
	pthread_mutex_unlock(&r->mutex);
	/* It fails only when it is readable anyway. */
	if (r->error < 0 && write(r->failed_fd, &one, sizeof(one)) < 0)
		return NULL;
	return NULL;
}

/* Signals are the loop's. */
static int start_thread(struct recorder *r)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&r->thread, NULL, writer, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error != 0)
		return -error;
	r->has_thread = true;
	return 0;
}

/* ---- the loop ---- */

static void on_turn(void *userdata)
{
	struct recorder *r = userdata;

	pthread_mutex_lock(&r->mutex);
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->mutex);
}

static void tell(void *userdata)
{
	struct recorder *r = userdata;
	char why[512];
	int error;

	r->ended = true;
	if (r->told)
		return;
	r->told = true;
	pthread_mutex_lock(&r->mutex);
	error = r->error;
	pthread_mutex_unlock(&r->mutex);
	if (error < 0)
		snprintf(why, sizeof(why), "cannot write %s: %s", r->path, strerror(-error));
	else
		snprintf(why, sizeof(why), "%s does not take events as fast as they come", r->path);
	r->fn(error < 0 ? error : -ENOBUFS, why, r->userdata);
}

static void on_failed(int fd, unsigned events, void *userdata)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) > 0)
		tell(userdata);
}

/* NULL: it has ended. Else recorder_unlock() is due. */
static struct recording_text *lock(struct recorder *r)
{
	if (r->ended)
		return NULL;
	pthread_mutex_lock(&r->mutex);
	return &r->filling;
}

/* `written`: the outcome of writing one line. A recording with a gap could not be replayed. */
static void unlock(struct recorder *r, int written)
{
	pthread_mutex_unlock(&r->mutex);
	if (written < 0) {
		r->ended = true;
		loop_deferred_schedule(r->tell); /* not now: the caller is in the midst of an event */
	}
	loop_deferred_schedule(r->wake_up);
}

static int make_room(struct recording_text *text, size_t size)
{
	char *larger;

	if (text->room - text->size > size)
		return 0;
	larger = realloc(text->data, text->size + size + 1);
	if (!larger)
		return -ENOMEM;
	text->data = larger;
	text->room = text->size + size + 1;
	return 0;
}

/* ---- lines ---- */

void recorder_header(struct recorder *recorder, const struct fleet *fleet, const struct policy *policy, uint32_t cpus)
{
	struct recording_text *text = lock(recorder);
	int r;

	if (!text)
		return;
	r = make_room(text, recording_policy_size(policy));
	unlock(recorder, r < 0 ? r : recording_write_header(text, fleet, policy, cpus));
}

void recorder_reload(struct recorder *recorder, const struct fleet *fleet, const struct policy *policy, uint64_t now)
{
	struct recording_text *text = lock(recorder);
	int r;

	if (!text)
		return;
	r = make_room(text, recording_policy_size(policy));
	unlock(recorder, r < 0 ? r : recording_write_reload(text, fleet, policy, now));
}

void recorder_add(struct recorder *recorder, const struct fleet_vm *member, const struct policy_subject *subject,
		  const struct store_vm *record, const struct vm_handover *handover, bool alive, uint64_t now)
{
	struct recording_text *text = lock(recorder);

	if (text)
		unlock(recorder, recording_write_add(text, member, subject, record, handover, alive, now));
}

void recorder_reshape(struct recorder *recorder, const struct fleet_vm *member, uint64_t now)
{
	struct recording_text *text = lock(recorder);

	if (text)
		unlock(recorder, recording_write_reshape(text, member, now));
}

void recorder_subject(struct recorder *recorder, const struct fleet_vm *member, const struct policy_subject *subject,
		      uint64_t now)
{
	struct recording_text *text = lock(recorder);

	if (text)
		unlock(recorder, recording_write_subject(text, member, subject, now));
}

void recorder_published(struct recorder *recorder, const struct fleet_vm *member, uint64_t now)
{
	struct recording_text *text = lock(recorder);

	if (text)
		unlock(recorder, recording_write_published(text, member, now));
}

void recorder_remove(struct recorder *recorder, const struct fleet_vm *member, uint64_t now)
{
	struct recording_text *text = lock(recorder);

	if (text)
		unlock(recorder, recording_write_remove(text, member, now));
}

void recorder_cpus(struct recorder *recorder, uint32_t cpus, uint64_t now)
{
	struct recording_text *text = lock(recorder);

	if (text)
		unlock(recorder, recording_write_cpus(text, cpus, now));
}

void recorder_event(struct recorder *recorder, const struct fleet *fleet, const struct fleet_event *event,
		    const struct fleet_answer *answer)
{
	struct recording_text *text = lock(recorder);

	if (text)
		unlock(recorder, recording_write_event(text, fleet, event, answer));
}

/* ---- life ---- */

static char *make_path(const char *directory)
{
	time_t now = time(NULL);
	char stamp[32], *path;
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	return asprintf(&path, "%s/cpupolicyd-%s-%d.jsonl", directory, stamp, (int)getpid()) < 0 ? NULL : path;
}

static int start(struct recorder *r, struct loop *loop)
{
	int error;

	r->filling = (struct recording_text){.data = malloc(BUFFER_SIZE), .room = BUFFER_SIZE};
	r->writing = (struct recording_text){.data = malloc(BUFFER_SIZE), .room = BUFFER_SIZE};
	if (!r->filling.data || !r->writing.data)
		return -ENOMEM;
	r->failed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->failed_fd < 0)
		return -errno;
	error = loop_io_new(&r->failed_io, loop, r->failed_fd, LOOP_READ, on_failed, r);
	if (error >= 0)
		error = loop_deferred_new(&r->wake_up, loop, on_turn, r);
	if (error >= 0)
		error = loop_deferred_new(&r->tell, loop, tell, r);
	return error < 0 ? error : start_thread(r);
}

int recorder_open(struct recorder **ret, struct loop *loop, const char *directory, recorder_ended_fn fn, void *userdata,
		  char **ret_error)
{
	struct recorder *r = calloc(1, sizeof(*r));
	int error;

	*ret_error = NULL;
	if (!r)
		return -ENOMEM;
	r->fd = r->failed_fd = -1;
	r->fn = fn;
	r->userdata = userdata;
	pthread_mutex_init(&r->mutex, NULL);
	pthread_cond_init(&r->wake, NULL);
	r->path = make_path(directory);
	error = r->path ? 0 : -ENOMEM;
	if (error >= 0) {
		r->fd = open(r->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		error = r->fd < 0 ? -errno : start(r, loop);
	}
	if (error < 0) {
		if (r->path && asprintf(ret_error, "cannot record events in %s: %s", r->path, strerror(-error)) < 0)
			*ret_error = NULL;
		recorder_close(r);
		return error;
	}
	*ret = r;
	return 0;
}

struct recorder *recorder_close(struct recorder *recorder)
{
	if (!recorder)
		return NULL;
	if (recorder->has_thread) {
		pthread_mutex_lock(&recorder->mutex);
		recorder->closing = true;
		pthread_cond_signal(&recorder->wake);
		pthread_mutex_unlock(&recorder->mutex);
		pthread_join(recorder->thread, NULL);
	}
	loop_deferred_free(recorder->wake_up);
	loop_deferred_free(recorder->tell);
	loop_io_free(recorder->failed_io);
	if (recorder->failed_fd >= 0)
		close(recorder->failed_fd);
	if (recorder->fd >= 0)
		close(recorder->fd);
	free(recorder->filling.data);
	free(recorder->writing.data);
	pthread_cond_destroy(&recorder->wake);
	pthread_mutex_destroy(&recorder->mutex);
	free(recorder->path);
	free(recorder);
	return NULL;
}

const char *recorder_path(const struct recorder *recorder)
{
	return recorder->path;
}
