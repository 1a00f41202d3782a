/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * callers DAEMON-SOCKET BUS-ADDRESS DIRECTORY CALLERS SLICES MILLISECONDS
 *
 * SetVcpuCount by so many callers at once, each on a connection of its own and for a VM of its own, each with the next
 * request as soon as the last one is durable; in slices, and between these a bare loop of commits with synchronous=FULL, one
 * record after the other, in DIRECTORY, which is on the disk that the daemon writes to.
 */

#include <errno.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

#define POSSIBLE 8u
#define LOW      4u

struct caller {
	sd_bus *bus;
	const char *vm;
	uint32_t count;
	bool busy;
	uint64_t *done; /* calls, of all */
	bool *go;       /* on with the next one */
};

/* ---- the callers ---- */

static void ask(struct caller *c);

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error __attribute__((unused)))
{
	struct caller *c = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(m);

	if (e)
		bench_fail("SetVcpuCount: %s", e->message);
	(*c->done)++;
	c->busy = false;
	if (*c->go)
		ask(c);
	return 0;
}

static void ask(struct caller *c)
{
	int r;

	c->count = c->count == LOW ? LOW + 1 : LOW;
	c->busy = true;
	r = sd_bus_call_method_async(c->bus, NULL, "org.cpupolicy1", "/org/cpupolicy1", "org.cpupolicy1.Manager",
				     "SetVcpuCount", on_reply, c, "su", c->vm, c->count);
	if (r < 0)
		bench_fail("SetVcpuCount: %s", strerror(-r));
}

static void open_bus(struct caller *c, const char *address)
{
	int r = sd_bus_new(&c->bus);

	if (r >= 0)
		r = sd_bus_set_address(c->bus, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(c->bus, true);
	if (r >= 0)
		r = sd_bus_start(c->bus);
	if (r < 0)
		bench_fail("%s: %s", address, strerror(-r));
}

static bool any_busy(const struct caller *callers, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (callers[i].busy)
			return true;
	return false;
}

static void turn(struct caller *callers, uint32_t n, struct pollfd *fds)
{
	for (uint32_t i = 0; i < n; i++)
		fds[i] = (struct pollfd){.fd = sd_bus_get_fd(callers[i].bus),
					 .events = (short)sd_bus_get_events(callers[i].bus)};
	if (poll(fds, n, 10000) <= 0)
		bench_fail("nothing happens for 10 s");
	for (uint32_t i = 0; i < n; i++)
		while (fds[i].revents && sd_bus_process(callers[i].bus, NULL) > 0)
			;
}

/* Nanoseconds; *done counts. Ends when all have their answers. */
static uint64_t call_for(struct caller *callers, uint32_t n, struct pollfd *fds, uint64_t ns)
{
	uint64_t begin = bench_now();
	bool *go = callers[0].go;

	*go = true;
	for (uint32_t i = 0; i < n; i++)
		ask(&callers[i]);
	while (any_busy(callers, n)) {
		turn(callers, n, fds);
		if (bench_now() - begin >= ns)
			*go = false;
	}
	return bench_now() - begin;
}

/* ---- the yardstick ---- */

struct database {
	sqlite3 *db;
	sqlite3_stmt *update;
};

static void sql(sqlite3 *db, const char *text)
{
	char *error = NULL;

	if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK)
		bench_fail("%s: %s", text, error);
}

static void open_database(struct database *d, const char *directory, uint32_t records)
{
	char path[4096], text[128];

	snprintf(path, sizeof(path), "%s/callers.db", directory);
	if (sqlite3_open(path, &d->db) != SQLITE_OK)
		bench_fail("%s: %s", path, sqlite3_errmsg(d->db));
	sql(d->db, "PRAGMA journal_mode = WAL");
	sql(d->db, "PRAGMA synchronous = FULL");
	sql(d->db, "CREATE TABLE record (id INTEGER PRIMARY KEY, data BLOB)");
	snprintf(text, sizeof(text),
		 "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
		 "INSERT INTO record SELECT i, zeroblob(256) FROM n",
		 records - 1);
	sql(d->db, text);
	if (sqlite3_prepare_v2(d->db, "UPDATE record SET data = randomblob(256) WHERE id = ?", -1, &d->update, NULL) !=
	    SQLITE_OK)
		bench_fail("%s", sqlite3_errmsg(d->db));
}

static uint64_t commit_for(struct database *d, uint32_t records, uint64_t ns, uint64_t *done)
{
	uint64_t begin = bench_now(), now;

	do {
		if (sqlite3_bind_int(d->update, 1, (int)(*done % records)) != SQLITE_OK ||
		    sqlite3_step(d->update) != SQLITE_DONE || sqlite3_reset(d->update) != SQLITE_OK)
			bench_fail("%s", sqlite3_errmsg(d->db));
		(*done)++;
		now = bench_now();
	} while (now - begin < ns);
	return now - begin;
}

int main(int argc, char **argv)
{
	struct bench_samples called, committed;
	uint64_t ns, done = 0, commits = 0;
	struct database database = {0};
	struct caller *callers;
	struct pollfd *fds;
	struct vmm *vmms;
	uint32_t n, slices;
	bool go = false;

	if (argc != 7)
		bench_fail("usage: callers DAEMON-SOCKET BUS-ADDRESS DIRECTORY CALLERS SLICES MILLISECONDS");
	n = bench_number(argv[4], 1);
	slices = bench_number(argv[5], 1);
	ns = (uint64_t)bench_number(argv[6], 1) * 1000000;
	callers = calloc(n, sizeof(*callers));
	vmms = calloc(n, sizeof(*vmms));
	fds = calloc(n, sizeof(*fds));
	if (!callers || !vmms || !fds)
		bench_fail("out of memory");
	vmm_start(vmms, n, argv[1], "caller", POSSIBLE, LOW);
	open_database(&database, argv[3], n);
	for (uint32_t i = 0; i < n; i++) {
		callers[i] = (struct caller){.vm = vmms[i].name, .count = LOW, .done = &done, .go = &go};
		open_bus(&callers[i], argv[2]);
	}
	bench_samples_init(&called, slices);
	bench_samples_init(&committed, slices);
	call_for(callers, n, fds, ns); /* connections and caches are warm after it */
	for (uint32_t i = 0; i < slices; i++) {
		uint64_t before = done, bare = commits, took = call_for(callers, n, fds, ns);

		bench_samples_add(&called, (done - before) * 1000000000 / took);
		took = commit_for(&database, n, ns, &commits);
		bench_samples_add(&committed, (commits - bare) * 1000000000 / took);
	}
	printf("{\"name\": \"callers\", \"per_second\": %llu}\n{\"name\": \"bare\", \"per_second\": %llu}\n",
	       (unsigned long long)bench_samples_quantile(&called, 500),
	       (unsigned long long)bench_samples_quantile(&committed, 500));
	bench_samples_clear(&called);
	bench_samples_clear(&committed);
	for (uint32_t i = 0; i < n; i++)
		sd_bus_flush_close_unref(callers[i].bus);
	sqlite3_finalize(database.update);
	sqlite3_close(database.db);
	free(callers);
	free(vmms);
	free(fds);
	return 0;
}
