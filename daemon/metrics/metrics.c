/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * evhttp speaks HTTP; what it does not do is bound its connections, so each gets its bufferevent from here, with a
 * reference that is kept. One whose callbacks are gone has been given up by evhttp, and is counted no more.
 */

#include "daemon/metrics/metrics.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "daemon/base/address.h"
#include "daemon/base/log.h"
#include "daemon/metrics/metrics_text.h"
#include "daemon/base/util.h"

#define CONNECTIONS  16u
#define BACKLOG      16
#define PAUSE        NSEC_PER_SEC /* with as many connections as may be, or without descriptors */
#define IDLE_SECONDS 90           /* longer than the usual intervals of scraping */
#define HEADERS_SIZE 16384
#define BODY_SIZE    1024
#define STEP         32u /* VMs per turn of the loop */
#define SOCKET_MODE  0660

TAILQ_HEAD(scrape_list, scrape);

/* A request whose text is being made. */
struct scrape {
	struct metrics *metrics;
	TAILQ_ENTRY(scrape) entry;
	struct evhttp_request *request;
	struct metrics_text *text;
	struct loop_deferred *step;
};

struct metrics {
	struct loop *loop;
	struct host *host;
	struct evhttp *http;
	struct evconnlistener *listener; /* the http's */
	struct loop_timer *pause;
	struct bufferevent *connections[CONNECTIONS];
	size_t n_connections;
	struct scrape_list scrapes;
	char *path; /* of the socket file that is ours to remove; NULL: none is */
};

/* ---- scrapes ---- */

static void scrape_free(struct scrape *s)
{
	TAILQ_REMOVE(&s->metrics->scrapes, s, entry);
	loop_deferred_free(s->step);
	metrics_text_free(s->text);
	free(s);
}

/* evhttp has sent the last part, or dropped all. */
static void on_text_sent(const void *data, size_t size, void *userdata)
{
	metrics_text_free(userdata);
}

/* The buffer only refers to the text. On success it is the buffer's, which lets go of its parts in order. */
static int refer(struct evbuffer *buffer, struct metrics_text *text)
{
	size_t last = metrics_text_parts(text) - 1;

	for (size_t i = 0; i <= last; i++) {
		size_t size;
		const char *part = metrics_text_part(text, i, &size);

		if (evbuffer_add_reference(buffer, part, size, i == last ? on_text_sent : NULL, text) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void send_text(struct scrape *s)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(s->request);
	struct evbuffer *buffer = evbuffer_new();

	if (!buffer || evhttp_add_header(headers, "Content-Type", METRICS_TEXT_TYPE) < 0 ||
	    refer(buffer, s->text) < 0) {
		if (buffer)
			evbuffer_free(buffer);
		evhttp_send_error(s->request, 503, NULL);
		return;
	}
	s->text = NULL;
	/* One that has hung up meanwhile is known to evhttp. */
	evhttp_send_reply(s->request, 200, "OK", buffer);
	evbuffer_free(buffer);
}

static void on_step(void *userdata)
{
	struct scrape *s = userdata;
	int r = metrics_text_step(s->text, STEP);

	if (r > 0) {
		loop_deferred_schedule(s->step);
		return;
	}
	if (r < 0)
		evhttp_send_error(s->request, 503, NULL);
	else
		send_text(s);
	scrape_free(s);
}

static int scrape_new(struct metrics *m, struct evhttp_request *request)
{
	struct scrape *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->metrics = m;
	s->request = request;
	TAILQ_INSERT_TAIL(&m->scrapes, s, entry);
	r = metrics_text_new(&s->text, m->host);
	if (r == 0)
		r = loop_deferred_new(&s->step, m->loop, on_step, s);
	if (r < 0) {
		scrape_free(s);
		return r;
	}
	loop_deferred_schedule(s->step);
	return 0;
}

static void on_metrics(struct evhttp_request *request, void *userdata)
{
	if (scrape_new(userdata, request) < 0)
		evhttp_send_error(request, 503, NULL);
}

static void on_other(struct evhttp_request *request, void *userdata)
{
	evhttp_send_error(request, HTTP_NOTFOUND, NULL);
}

/* ---- connections ---- */

static bool is_given_up(struct bufferevent *connection)
{
	bufferevent_event_cb on_event;

	bufferevent_getcb(connection, NULL, NULL, &on_event, NULL);
	return !on_event;
}

static void sweep(struct metrics *m, bool all)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_connections; i++) {
		if (all || is_given_up(m->connections[i]))
			bufferevent_decref(m->connections[i]);
		else
			m->connections[n++] = m->connections[i];
	}
	m->n_connections = n;
}

static void pause_accepting(struct metrics *m)
{
	evconnlistener_disable(m->listener);
	loop_timer_set(m->pause, loop_now(m->loop) + PAUSE);
}

static void on_pause_end(void *userdata)
{
	struct metrics *m = userdata;

	sweep(m, false);
	if (m->n_connections == CONNECTIONS || evconnlistener_enable(m->listener) < 0)
		loop_timer_set(m->pause, loop_now(m->loop) + PAUSE);
}

static struct bufferevent *on_connection(struct event_base *base, void *userdata)
{
	struct metrics *m = userdata;
	struct bufferevent *connection = bufferevent_socket_new(base, -1, 0);

	sweep(m, false);
	if (!connection || m->n_connections == CONNECTIONS)
		return connection;
	bufferevent_incref(connection);
	m->connections[m->n_connections++] = connection;
	if (m->n_connections == CONNECTIONS)
		pause_accepting(m);
	return connection;
}

static void on_accept_error(struct evconnlistener *listener, void *userdata)
{
	struct metrics *m = userdata;

	log_error("cannot accept connections for metrics now: %s", strerror(errno));
	pause_accepting(m);
}

/* ---- the socket ---- */

static int explain(int r, char **ret_error, const char *what, const char *address)
{
	if (asprintf(ret_error, "cannot %s %s for metrics: %s", what, address, strerror(-r)) < 0)
		*ret_error = NULL;
	return r;
}

/* Nothing but a socket is removed: a path that was mistyped must not cost a file. */
static int remove_stale(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	return unlink(path) < 0 ? -errno : 0;
}

static int set_access(const char *path, const char *name)
{
	const struct group *group = NULL;

	errno = 0;
	if (name)
		group = getgrnam(name);
	if (name && !group)
		return errno ? -errno : -ENOENT;
	if (group && lchown(path, (uid_t)-1, group->gr_gid) < 0)
		return -errno;
	return chmod(path, SOCKET_MODE) < 0 ? -errno : 0;
}

static int bind_unix(struct metrics *m, int fd, const struct sockaddr_un *address, const char *group)
{
	int r = remove_stale(address->sun_path);

	if (r < 0)
		return r;
	/* Nobody may connect before the group is what it should be; bind() takes the mode from here. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return -errno;
	m->path = strdup(address->sun_path);
	return m->path ? set_access(m->path, group) : -ENOMEM;
}

static int bind_inet(int fd, const struct sockaddr *address, socklen_t size)
{
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 || bind(fd, address, size) < 0)
		return -errno;
	return 0;
}

static int open_socket(struct metrics *m, const char *text, const char *group)
{
	_cleanup_close_ int fd = -1;
	union address address;
	socklen_t size;
	bool local;
	int r;

	r = address_parse(&address, &size, text);
	if (r < 0)
		return r;
	local = address.any.sa_family == AF_UNIX;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = local ? bind_unix(m, fd, &address.local, group) : bind_inet(fd, &address.any, size);
	if (r < 0)
		return r;
	if (listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

/* ---- life ---- */

static int serve(struct metrics *m, int listening)
{
	const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC;
	struct event_base *base = loop_event_base(m->loop);
	_cleanup_close_ int fd = listening;
	int r;

	r = loop_timer_new(&m->pause, m->loop, on_pause_end, m);
	if (r < 0)
		return r;
	m->http = evhttp_new(base);
	if (!m->http)
		return -ENOMEM;
	evhttp_set_allowed_methods(m->http, EVHTTP_REQ_GET);
	evhttp_set_max_headers_size(m->http, HEADERS_SIZE);
	evhttp_set_max_body_size(m->http, BODY_SIZE);
	evhttp_set_timeout(m->http, IDLE_SECONDS);
	evhttp_set_bevcb(m->http, on_connection, m);
	evhttp_set_gencb(m->http, on_other, m);
	if (evhttp_set_cb(m->http, "/metrics", on_metrics, m) < 0)
		return -ENOMEM;
	m->listener = evconnlistener_new(base, NULL, NULL, flags, 0, fd);
	if (!m->listener)
		return -ENOMEM;
	take_fd(&fd);
	if (!evhttp_bind_listener(m->http, m->listener)) {
		evconnlistener_free(m->listener);
		m->listener = NULL;
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(m->listener, on_accept_error);
	return 0;
}

int metrics_new(struct metrics **ret, struct loop *loop, struct host *host, const char *address, const char *group,
		char **ret_error)
{
	struct metrics *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return explain(-ENOMEM, ret_error, "serve", address);
	m->loop = loop;
	m->host = host;
	TAILQ_INIT(&m->scrapes);
	r = open_socket(m, address, group);
	if (r >= 0)
		r = serve(m, r);
	if (r < 0) {
		metrics_free(m);
		return explain(r, ret_error, "serve", address);
	}
	*ret = m;
	return 0;
}

struct metrics *metrics_free(struct metrics *metrics)
{
	struct scrape *s;

	if (!metrics)
		return NULL;
	while ((s = TAILQ_FIRST(&metrics->scrapes))) {
		/* that of a connection goes with it */
		if (!evhttp_request_get_connection(s->request))
			evhttp_request_free(s->request);
		scrape_free(s);
	}
	if (metrics->http)
		evhttp_free(metrics->http);
	sweep(metrics, true);
	loop_timer_free(metrics->pause);
	if (metrics->path)
		unlink(metrics->path);
	free(metrics->path);
	free(metrics);
	return NULL;
}
