/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * resize DAEMON-SOCKET BUS-ADDRESS DIRECTORY COUNT
 *
 * SetVcpuCount as a client of the bus sees it, up and down in turn with a guest that does what it is asked; and in
 * between what it cannot do without: a method call through the same bus to a service that only answers, and a commit
 * to a database of its own in DIRECTORY, which is on the disk that the daemon writes to.
 */

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "proto/page.h"
#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

#define POSSIBLE 8u
#define LOW      4u
#define QUIET    UINT64_C(15000000)

struct resize {
	sd_bus *bus;
	struct vmm vmm;
	char job_ended[128]; /* path of the job that ended last */
	sqlite3 *db;
	sqlite3_stmt *update;
};

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error __attribute__((unused)))
{
	const char *job, *result;
	struct resize *x = userdata;
	uint64_t id;
	int r;

	r = sd_bus_message_read(m, "toss", &id, &job, NULL, &result);
	if (r < 0)
		bench_fail("JobRemoved: %s", strerror(-r));
	if (strcmp(result, "done") != 0)
		bench_fail("%s ended as %s", job, result);
	snprintf(x->job_ended, sizeof(x->job_ended), "%s", job);
	return 0;
}

static void open_bus(struct resize *x, const char *address)
{
	int r;

	r = sd_bus_new(&x->bus);
	if (r >= 0)
		r = sd_bus_set_address(x->bus, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(x->bus, true);
	if (r >= 0)
		r = sd_bus_start(x->bus);
	if (r >= 0)
		r = sd_bus_match_signal(x->bus, NULL, "org.cpupolicy1", "/org/cpupolicy1", "org.cpupolicy1.Manager",
					"JobRemoved", on_job_removed, x);
	if (r < 0)
		bench_fail("%s: %s", address, strerror(-r));
}

static void sql(sqlite3 *db, const char *text)
{
	char *error = NULL;

	if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK)
		bench_fail("%s: %s", text, error);
}

static void open_database(struct resize *x, const char *directory)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/yardstick.db", directory);
	if (sqlite3_open(path, &x->db) != SQLITE_OK)
		bench_fail("%s: %s", path, sqlite3_errmsg(x->db));
	sql(x->db, "PRAGMA journal_mode = WAL");
	sql(x->db, "PRAGMA synchronous = FULL");
	sql(x->db, "CREATE TABLE record (id INTEGER PRIMARY KEY, data BLOB)");
	sql(x->db, "INSERT INTO record VALUES (1, zeroblob(256))");
	if (sqlite3_prepare_v2(x->db, "UPDATE record SET data = randomblob(256) WHERE id = 1", -1, &x->update, NULL) !=
	    SQLITE_OK)
		bench_fail("%s", sqlite3_errmsg(x->db));
}

static void commit(struct resize *x)
{
	if (sqlite3_step(x->update) != SQLITE_DONE || sqlite3_reset(x->update) != SQLITE_OK)
		bench_fail("%s", sqlite3_errmsg(x->db));
}

/* The job's path, or whatever the method answers. */
static void call(struct resize *x, const char *service, const char *path, const char *interface, uint32_t count,
		 char *ret_job, size_t size)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *reply = NULL;
	const char *job;
	int r;

	r = sd_bus_call_method(x->bus, service, path, interface, "SetVcpuCount", &error, &reply, "su", x->vmm.name,
			       count);
	if (r >= 0)
		r = sd_bus_message_read(reply, "o", &job);
	if (r < 0)
		bench_fail("SetVcpuCount %u: %s", count, error.message ? error.message : strerror(-r));
	snprintf(ret_job, size, "%s", job);
	sd_bus_message_unref(reply);
}

static void event(struct resize *x, uint32_t vcpu, uint32_t source, uint32_t status)
{
	struct cpupolicy_ost ost = {.vcpu = vcpu, .event = source, .status = status};

	vmm_call(&x->vmm, CPUPOLICY_OST, &ost, sizeof(ost));
}

/* The guest's side of the job; returns when the daemon has ended it. */
static void settle(struct resize *x, uint32_t count, const char *job)
{
	uint64_t head = cpupolicy_page_load_head(x->vmm.page), word = cpupolicy_page_load_word(x->vmm.page, LOW);
	struct cpupolicy_confirm confirm = {.generation = cpupolicy_page_generation(head),
					    .epoch = cpupolicy_page_epoch(head)};
	struct cpupolicy_eject eject = {.vcpu = LOW, .cause = CPUPOLICY_EJECT_REQUESTED};
	char drained[256];
	int r;

	/* the reply comes after the page */
	if (!!(word & CPUPOLICY_WORD_WANTED) != (count > LOW))
		bench_fail("SetVcpuCount %u has returned, and the page does not say so", count);
	while (recv(x->vmm.doorbell, drained, sizeof(drained), MSG_DONTWAIT) > 0)
		;
	vmm_call(&x->vmm, CPUPOLICY_CONFIRM, &confirm, sizeof(confirm));
	if (count > LOW) {
		event(x, LOW, 1, 0);
	} else {
		event(x, LOW, 3, 0x84);
		vmm_call(&x->vmm, CPUPOLICY_EJECT, &eject, sizeof(eject));
		event(x, LOW, 3, 0);
	}
	while (strcmp(x->job_ended, job) != 0) {
		r = sd_bus_process(x->bus, NULL);
		if (r == 0)
			r = sd_bus_wait(x->bus, 10000000);
		if (r <= 0)
			bench_fail("%s does not end: %s", job, r < 0 ? strerror(-r) : "nothing for 10 s");
	}
}

int main(int argc, char **argv)
{
	struct bench_samples resized, called, committed, both;
	struct resize x = {0};
	uint64_t t0, t1, t2;
	uint32_t n, count;
	char job[128];

	if (argc != 5)
		bench_fail("usage: resize DAEMON-SOCKET BUS-ADDRESS DIRECTORY COUNT");
	n = bench_number(argv[4], 1);
	bench_samples_init(&resized, n);
	bench_samples_init(&called, n);
	bench_samples_init(&committed, n);
	bench_samples_init(&both, n);
	vmm_start(&x.vmm, 1, argv[1], "resize", POSSIBLE, LOW);
	open_bus(&x, argv[2]);
	open_database(&x, argv[3]);

	for (uint32_t i = 0; i < n; i++) {
		count = i % 2 ? LOW : LOW + 1;
		bench_pause(QUIET);
		t0 = bench_now();
		call(&x, "org.cpupolicy1", "/org/cpupolicy1", "org.cpupolicy1.Manager", count, job, sizeof(job));
		t1 = bench_now();
		bench_samples_add(&resized, t1 - t0);
		settle(&x, count, job);

		bench_pause(QUIET);
		t0 = bench_now();
		call(&x, "org.cpupolicy1.Yardstick", "/yardstick", "org.cpupolicy1.Yardstick", count, job, sizeof(job));
		t1 = bench_now();
		commit(&x);
		t2 = bench_now();
		bench_samples_add(&called, t1 - t0);
		bench_samples_add(&committed, t2 - t1);
		bench_samples_add(&both, t2 - t0);
	}
	bench_samples_print("resize", &resized);
	bench_samples_print("bare", &both);
	bench_samples_print("method", &called);
	bench_samples_print("commit", &committed);
	bench_samples_clear(&resized);
	bench_samples_clear(&both);
	bench_samples_clear(&called);
	bench_samples_clear(&committed);
	sqlite3_finalize(x.update);
	sqlite3_close(x.db);
	sd_bus_flush_close_unref(x.bus);
	return 0;
}
