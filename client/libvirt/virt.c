/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/virt.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "client/libvirt/virt_watch.h"
#include "daemon/base/log.h"
#include "daemon/base/util.h"

#define ACTORS 3

enum message_kind { MESSAGE_UP, MESSAGE_DOWN, MESSAGE_EVENT, MESSAGE_DONE };

struct message {
	STAILQ_ENTRY(message) entry;
	enum message_kind kind;
	struct virt_event event;
	struct virt_task *task;
	char why[512];
};

struct virt {
	struct loop *loop;
	struct loop_io *io;
	const char *uri;
	const struct virt_ops *ops;
	void *userdata;
	int to_loop, to_watch; /* eventfds */

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t work;  /* for actors */
	TAILQ_HEAD(, virt_task) looks, acts;
	STAILQ_HEAD(, message) messages;
	const struct virt_task *busy[ACTORS];
	virConnectPtr connection; /* NULL: none */
};

static void ring(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		log_error("cannot wake a thread: %s", strerror(errno));
}

static void hear(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_error("cannot read an eventfd: %s", strerror(errno));
}

/* ---- to the loop ---- */

static void send_message(struct virt *v, struct message *m)
{
	pthread_mutex_lock(&v->lock);
	STAILQ_INSERT_TAIL(&v->messages, m, entry);
	pthread_mutex_unlock(&v->lock);
	ring(v->to_loop);
}

static struct message *new_message(enum message_kind kind)
{
	struct message *m = calloc(1, sizeof(*m));

	if (m)
		m->kind = kind;
	else /* nothing can be told any more: started again, all is looked at anew */
		abort();
	return m;
}

static void deliver(struct virt *v, struct message *m)
{
	switch (m->kind) {
	case MESSAGE_UP:
		v->ops->up(v->userdata);
		break;
	case MESSAGE_DOWN:
		v->ops->down(m->why, v->userdata);
		break;
	case MESSAGE_EVENT:
		v->ops->event(&m->event, v->userdata);
		break;
	case MESSAGE_DONE:
		m->task->done(m->task, v->userdata);
		break;
	}
	free(m);
}

static struct message *take_message(struct virt *v)
{
	struct message *m;

	pthread_mutex_lock(&v->lock);
	m = STAILQ_FIRST(&v->messages);
	if (m)
		STAILQ_REMOVE_HEAD(&v->messages, entry);
	pthread_mutex_unlock(&v->lock);
	return m;
}

static void on_messages(int fd, unsigned events, void *userdata)
{
	struct virt *v = userdata;
	struct message *m;

	hear(fd);
	while ((m = take_message(v)))
		deliver(v, m);
}

static void finish(struct virt *v, struct virt_task *task)
{
	struct message *m = new_message(MESSAGE_DONE);

	m->task = task;
	send_message(v, m);
}

/* ---- what the watch says ---- */

void virt_watch_up(struct virt *v, virConnectPtr connection)
{
	pthread_mutex_lock(&v->lock);
	v->connection = connection;
	pthread_mutex_unlock(&v->lock);
	send_message(v, new_message(MESSAGE_UP));
}

void virt_watch_down(struct virt *v, const char *why)
{
	struct message *m = new_message(MESSAGE_DOWN);

	pthread_mutex_lock(&v->lock);
	v->connection = NULL;
	pthread_mutex_unlock(&v->lock);
	snprintf(m->why, sizeof(m->why), "%s", why);
	send_message(v, m);
}

void virt_watch_event(struct virt *v, const struct virt_event *event)
{
	struct message *m = new_message(MESSAGE_EVENT);

	m->event = *event;
	send_message(v, m);
}

static struct virt_task *take_look(struct virt *v)
{
	struct virt_task *task;

	pthread_mutex_lock(&v->lock);
	task = TAILQ_FIRST(&v->looks);
	if (task)
		TAILQ_REMOVE(&v->looks, task, entry);
	pthread_mutex_unlock(&v->lock);
	return task;
}

void virt_watch_work(struct virt *v, virConnectPtr connection)
{
	struct virt_task *task;

	hear(v->to_watch);
	while ((task = take_look(v))) {
		task->run(task, connection);
		finish(v, task);
	}
}

/* ---- threads ---- */

static void *run_watch(void *userdata)
{
	struct virt *v = userdata;

	virt_watch_run(v, v->uri, v->to_watch);
	return NULL;
}

static bool is_busy(const struct virt *v, const struct virt_task *task)
{
	for (size_t i = 0; i < ACTORS; i++)
		if (v->busy[i] && strcmp(v->busy[i]->uuid, task->uuid) == 0)
			return true;
	return false;
}

/* The first of a domain that nobody is at; with the lock. */
static struct virt_task *next_act(struct virt *v)
{
	struct virt_task *task;

	TAILQ_FOREACH(task, &v->acts, entry)
		if (!is_busy(v, task))
			return task;
	return NULL;
}

static void act(struct virt *v, size_t actor)
{
	struct virt_task *task = next_act(v);
	virConnectPtr connection = v->connection;

	if (!task) {
		pthread_cond_wait(&v->work, &v->lock);
		return;
	}
	TAILQ_REMOVE(&v->acts, task, entry);
	v->busy[actor] = task;
	if (connection)
		virConnectRef(connection);
	pthread_mutex_unlock(&v->lock);
	task->run(task, connection);
	if (connection)
		virConnectClose(connection);
	pthread_mutex_lock(&v->lock);
	v->busy[actor] = NULL;
	/* what comes next for the same domain may be an idle actor's */
	pthread_cond_broadcast(&v->work);
	pthread_mutex_unlock(&v->lock);
	finish(v, task);
	pthread_mutex_lock(&v->lock);
}

struct actor {
	struct virt *v;
	size_t number;
};

static void *run_actor(void *userdata)
{
	struct actor actor = *(struct actor *)userdata;

	free(userdata);
	pthread_mutex_lock(&actor.v->lock);
	for (;;)
		act(actor.v, actor.number);
	return NULL;
}

static int start_thread(void *(*fn)(void *), void *userdata)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, fn, userdata);

	if (r == 0)
		pthread_detach(thread);
	return -r;
}

void virt_submit(struct virt *v, struct virt_task *task)
{
	pthread_mutex_lock(&v->lock);
	if (task->lane == VIRT_LOOK)
		TAILQ_INSERT_TAIL(&v->looks, task, entry);
	else
		TAILQ_INSERT_TAIL(&v->acts, task, entry);
	pthread_cond_broadcast(&v->work);
	pthread_mutex_unlock(&v->lock);
	if (task->lane == VIRT_LOOK)
		ring(v->to_watch);
}

int virt_start(struct virt *v)
{
	int r = 0;

	for (size_t i = 0; i < ACTORS && r >= 0; i++) {
		struct actor *actor = malloc(sizeof(*actor));

		if (!actor)
			return -ENOMEM;
		*actor = (struct actor){v, i};
		r = start_thread(run_actor, actor);
	}
	return r < 0 ? r : start_thread(run_watch, v);
}

int virt_new(struct virt **ret, struct loop *loop, const char *uri, const struct virt_ops *ops, void *userdata)
{
	struct virt *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	*v = (struct virt){.loop = loop, .uri = uri, .ops = ops, .userdata = userdata};
	TAILQ_INIT(&v->looks);
	TAILQ_INIT(&v->acts);
	STAILQ_INIT(&v->messages);
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->work, NULL);
	v->to_loop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->to_watch = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = v->to_loop < 0 || v->to_watch < 0 ? -errno : 0;
	if (r >= 0)
		r = loop_io_new(&v->io, loop, v->to_loop, LOOP_READ, on_messages, v);
	if (r < 0)
		return r; /* the process ends with it */
	*ret = v;
	return 0;
}
