/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What the store keeps of service levels: assignments, credit, usage, the host's modes; older databases; backups. */

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/peer.h"
#include "daemon/store/store.h"
#include "daemon/base/util.h"

#define DEADLINE (30 * NSEC_PER_SEC)
#define HOUR     USAGE_HOUR

static struct loop *loop;
static struct store *store;
static char directory[64];
static char database[128];
static char *error;

/* ---- the scene ---- */

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	strcpy(directory, "/tmp/check-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(database, sizeof(database), "%s/state.db", directory);
	store = NULL;
	error = NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	store = store_close(store);
	loop = loop_free(loop);
	free(error);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void open_store(void)
{
	int r = store_open(&store, loop, directory, &error);

	ck_assert_msg(r == 0, "%s", error ? error : strerror(-r));
}

static void reopen(void)
{
	store = store_close(store);
	open_store();
}

static void outside(const char *sql)
{
	sqlite3 *db;
	char *message = NULL;

	ck_assert_int_eq(sqlite3_open(database, &db), SQLITE_OK);
	sqlite3_exec(db, sql, NULL, NULL, &message);
	ck_assert_msg(!message, "%s", message);
	sqlite3_close(db);
}

static struct store_vm make_vm(unsigned number)
{
	struct store_vm vm = {
		.uuid = {[0] = (uint8_t)(number >> 8), [1] = (uint8_t)number, [15] = 1},
		.possible = 4,
		.boot = 1,
		.desired = 1,
		.desired_uid = UINT32_MAX,
		.assigned_uid = UINT32_MAX,
		.enabled = calloc(1, 1),
		.wanted = calloc(1, 1),
		.class = strdup("gold"),
		.meters.at = 1,
	};

	ck_assert_int_gt(asprintf(&vm.name, "vm%u", number), 0);
	return vm;
}

/* Row `number`, of that hour since 1970. */
static struct usage_row make_row(uint64_t number, uint64_t hour, uint64_t guaranteed, uint64_t burst)
{
	return (struct usage_row){
		.number = number,
		.begin = hour * HOUR + number,
		.end = hour * HOUR + HOUR / 2,
		.guaranteed_ns = guaranteed,
		.burst_ns = burst,
	};
}

static void add_row(struct store_vm *vm, struct usage_row row, const char *class, const char *tenant)
{
	ck_assert_int_eq(store_vm_add_usage(vm, &row, class, tenant), 0);
}

/* ---- waiting ---- */

static unsigned n_awaited;
static int last_error;
static char last_why[256];

static void on_done(int r, const char *why, void *userdata)
{
	ck_assert((r == 0) == (why == NULL));
	last_error = r;
	snprintf(last_why, sizeof(last_why), "%s", why ? why : "");
	if (--n_awaited == 0)
		loop_quit(loop);
}

static void fail_late(void *userdata)
{
	ck_abort_msg("%u answers did not come", n_awaited);
}

static void await(void)
{
	struct loop_timer *timer;

	ck_assert_int_eq(loop_timer_new(&timer, loop, fail_late, NULL), 0);
	loop_timer_set(timer, loop_now(loop) + DEADLINE);
	while (n_awaited > 0)
		ck_assert_int_eq(loop_run(loop), 0);
	loop_timer_free(timer);
}

static void put(struct store_vm vm)
{
	ck_assert_int_eq(store_put(store, &vm, on_done, NULL), 0);
	ck_assert_ptr_null(vm.name);
	n_awaited++;
}

static void put_and_wait(struct store_vm vm)
{
	put(vm);
	await();
	ck_assert_msg(last_error == 0, "%s", last_why);
}

/* ---- reading ---- */

static struct store_vm loaded[8];
static unsigned n_loaded;

static int on_load(struct store_vm *vm, void *userdata)
{
	ck_assert_uint_lt(n_loaded, ARRAY_SIZE(loaded));
	loaded[n_loaded++] = *vm;
	*vm = (struct store_vm){0};
	return 0;
}

static void unload(void)
{
	while (n_loaded > 0)
		store_vm_clear(&loaded[--n_loaded]);
}

static void load(void)
{
	int r;

	unload();
	r = store_load(store, on_load, NULL, &error);
	ck_assert_msg(r == 0, "%s", error ? error : strerror(-r));
}

/* One line for each row: "NUMBER HOUR NAME CLASS TENANT GUARANTEED BURST". */
static char found[1 << 20];
static size_t n_found, n_batches;
static const char *during_first_batch;

static int on_rows(const struct store_usage_row *rows, size_t n, bool last, int r, const char *why, void *userdata)
{
	size_t *stop_after = userdata;

	ck_assert_uint_le(n, STORE_USAGE_BATCH);
	ck_assert((r == 0) == (why == NULL));
	ck_assert(r == 0 || (last && n == 0));
	if (n_batches++ == 0 && during_first_batch)
		outside(during_first_batch);
	for (size_t i = 0; i < n; i++, n_found++)
		if (strlen(found) < sizeof(found) - 1024)
			sprintf(found + strlen(found), "%llu %llu %s %s %s %llu %llu\n",
				(unsigned long long)rows[i].row.number, (unsigned long long)(rows[i].row.begin / HOUR),
				rows[i].name, rows[i].class, rows[i].tenant ? rows[i].tenant : "-",
				(unsigned long long)rows[i].row.guaranteed_ns,
				(unsigned long long)rows[i].row.burst_ns);
	if (stop_after && n_batches == *stop_after) {
		loop_quit(loop);
		return -1;
	}
	if (last)
		on_done(r, why, NULL);
	return 0;
}

static void query(const struct store_usage_filter *filter)
{
	found[0] = '\0';
	n_found = n_batches = 0;
	n_awaited++;
	ck_assert_int_eq(store_usage_query(store, filter, on_rows, NULL), 0);
	await();
}

static void expect_usage(const struct store_usage_filter *filter, const char *expected)
{
	query(filter);
	ck_assert_msg(last_error == 0, "%s", last_why);
	ck_assert_str_eq(found, expected);
}

static const struct store_usage_filter all = {.until = UINT64_MAX};

/* ---- records ---- */

START_TEST(every_field_survives)
{
	struct store_vm vm = make_vm(1);
	const struct store_vm *r;

	vm.assigned_class = strdup("silver");
	vm.assigned_tenant = strdup("acme");
	vm.assigned_uid = 1234;
	vm.tenant = strdup("beta");
	vm.meters = (struct fleet_saved){
		.credit_opened = true,
		.credit_spent = true,
		.balance = -CLASS_CREDIT_MAX,
		.at = UINT64_MAX - 1,
		.row = {.number = 7, .begin = 8, .end = UINT64_MAX - 9, .guaranteed_ns = UINT64_MAX, .burst_ns = 11},
		.last_row = 7,
	};
	open_store();
	put_and_wait(vm);
	reopen();
	load();
	ck_assert_uint_eq(n_loaded, 1);
	r = &loaded[0];
	ck_assert_str_eq(r->assigned_class, "silver");
	ck_assert_str_eq(r->assigned_tenant, "acme");
	ck_assert_uint_eq(r->assigned_uid, 1234);
	ck_assert_str_eq(r->class, "gold");
	ck_assert_str_eq(r->tenant, "beta");
	ck_assert(r->meters.credit_opened);
	ck_assert(r->meters.credit_spent);
	ck_assert_int_eq(r->meters.balance, -CLASS_CREDIT_MAX);
	ck_assert_uint_eq(r->meters.at, UINT64_MAX - 1);
	ck_assert_uint_eq(r->meters.row.number, 7);
	ck_assert_uint_eq(r->meters.row.begin, 8);
	ck_assert_uint_eq(r->meters.row.end, UINT64_MAX - 9);
	ck_assert_uint_eq(r->meters.row.guaranteed_ns, UINT64_MAX);
	ck_assert_uint_eq(r->meters.row.burst_ns, 11);
	ck_assert_uint_eq(r->meters.last_row, 7);
	ck_assert_uint_eq(r->n_usage, 0);
	ck_assert(!r->other_boot);
	unload();
}
END_TEST

START_TEST(what_is_not_assigned_stays_so)
{
	open_store();
	put_and_wait(make_vm(1));
	load();
	ck_assert_ptr_null(loaded[0].assigned_class);
	ck_assert_ptr_null(loaded[0].assigned_tenant);
	ck_assert_uint_eq(loaded[0].assigned_uid, UINT32_MAX);
	ck_assert_ptr_null(loaded[0].tenant);
	ck_assert(!loaded[0].meters.credit_opened);
	ck_assert_uint_eq(loaded[0].meters.row.number, 0);
	unload();
}
END_TEST

START_TEST(clock_of_another_boot_is_said)
{
	open_store();
	put_and_wait(make_vm(1));
	store = store_close(store);
	outside("UPDATE vm SET boot_id = '00000000-0000-4000-8000-000000000001'");
	open_store();
	load();
	ck_assert(loaded[0].other_boot);
	unload();
}
END_TEST

START_TEST(damaged_record)
{
	static const struct {
		const char *sql, *column;
	} damages[] = {
		{"UPDATE vm SET assigned_class = ''", "assigned_class"},
		{"UPDATE vm SET assigned_tenant = 'a' || char(10)", "assigned_tenant"},
		{"UPDATE vm SET assigned_uid = -1", "assigned_uid"},
		{"UPDATE vm SET credit_spent = 2", "credit_spent"},
	};
	char expected[64];

	open_store();
	put_and_wait(make_vm(1));
	store = store_close(store);
	outside(damages[_i].sql);
	open_store();
	ck_assert_int_eq(store_load(store, on_load, NULL, &error), -EBADMSG);
	snprintf(expected, sizeof(expected), "has a bad %s", damages[_i].column);
	ck_assert_msg(strstr(error, expected) != NULL, "%s", error);
}
END_TEST

/* ---- the host ---- */

START_TEST(modes_of_the_host)
{
	struct store_host host;

	open_store();
	ck_assert_int_eq(store_load_host(store, &host, &error), 0);
	ck_assert(!host.frozen && !host.drained);
	ck_assert_uint_eq(host.frozen_uid, UINT32_MAX);
	host = (struct store_host){.frozen = true, .frozen_uid = 5, .drained_uid = UINT32_MAX - 1};
	n_awaited = 2;
	ck_assert_int_eq(store_put_host(store, &host, on_done, NULL), 0);
	host.drained = true;
	ck_assert_int_eq(store_put_host(store, &host, on_done, NULL), 0);
	await();
	ck_assert_int_eq(last_error, 0);
	reopen();
	ck_assert_int_eq(store_load_host(store, &host, &error), 0);
	ck_assert(host.frozen && host.drained);
	ck_assert_uint_eq(host.frozen_uid, 5);
	ck_assert_uint_eq(host.drained_uid, UINT32_MAX - 1);
	load();
	ck_assert_uint_eq(n_loaded, 0);
	store = store_close(store);
	outside("UPDATE host SET drained = 2");
	open_store();
	ck_assert_int_eq(store_load_host(store, &host, &error), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(error, "has a bad drained"));
}
END_TEST

/* ---- older databases ---- */

static void copy_version(unsigned version)
{
	const char *srcdir = getenv("srcdir");
	char path[4096], bytes[65536];
	size_t size;
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/data/store/version-%u.db", srcdir ? srcdir : ".", version);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	size = fread(bytes, 1, sizeof(bytes), f);
	ck_assert(feof(f));
	fclose(f);
	f = fopen(database, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
	ck_assert_int_eq(fclose(f), 0);
}

static char announced[4096];

static const char *or_dash(const char *text)
{
	return text ? text : "-";
}

static int keep_announcement(struct store_announcement *a, void *userdata)
{
	size_t n = strlen(announced);

	snprintf(announced + n, sizeof(announced) - n, "%u %s %s %u %s %s %s %u %d\n", a->uuid[0], a->provider,
		 or_dash(a->name), a->uid, or_dash(a->label), or_dash(a->class), or_dash(a->tenant), a->desired,
		 a->quota);
	return 0;
}

static void expect_announcements(const char *expected)
{
	announced[0] = '\0';
	ck_assert_int_eq(store_load_announcements(store, keep_announcement, NULL, &error), 0);
	ck_assert_str_eq(announced, expected);
}

static void expect_version_1(const struct store_vm *web1, const struct store_vm *db)
{
	ck_assert_str_eq(web1->name, "web1");
	ck_assert_uint_eq(web1->possible, 9);
	ck_assert_uint_eq(web1->boot, 2);
	ck_assert_uint_eq(web1->desired, 4);
	ck_assert(web1->desired_set && web1->boot_removable && web1->notify && !web1->stopped);
	ck_assert_uint_eq(web1->epoch, 7);
	ck_assert_uint_eq(web1->enabled[0], 0x0f);
	ck_assert_uint_eq(web1->enabled[1], 1);
	ck_assert_uint_eq(web1->wanted[1], 0);
	ck_assert_uint_eq(web1->desired_uid, 1001);
	ck_assert_uint_eq(web1->start_time, 987654321);
	ck_assert_int_eq(web1->pid, PEER_PID_GONE);
	ck_assert_uint_eq(web1->job.id, 12);
	ck_assert_uint_eq(web1->job.remaining, 60 * NSEC_PER_SEC);
	ck_assert_int_eq(web1->last_job.result, JOB_PARTIAL);
	ck_assert(web1->last_job.forbidden);
	ck_assert_str_eq(db->name, "db \xc3\xa4");
	ck_assert_uint_eq(db->possible, 512);
	ck_assert(db->stopped);
	ck_assert_uint_eq(db->epoch, UINT32_MAX);
	ck_assert_uint_eq(db->uid, UINT32_MAX - 1);
	/* what that version did not have */
	for (const struct store_vm *vm = web1; vm; vm = vm == web1 ? db : NULL) {
		ck_assert_ptr_null(vm->assigned_class);
		ck_assert_ptr_null(vm->assigned_tenant);
		ck_assert_uint_eq(vm->assigned_uid, UINT32_MAX);
		ck_assert(!vm->meters.credit_opened);
		ck_assert_uint_eq(vm->meters.row.number, 0);
		ck_assert_uint_eq(vm->meters.last_row, 0);
		ck_assert_ptr_null(vm->class);
		ck_assert(vm->other_boot); /* not metered since the clock was 0 */
	}
}

START_TEST(version_1_is_migrated)
{
	struct store_vm vm = make_vm(1);
	struct store_host host;

	copy_version(1);
	for (unsigned i = 0; i < 2; i++) { /* once more, from what the first made of it */
		open_store();
		load();
		ck_assert_uint_eq(n_loaded, 2);
		expect_version_1(&loaded[0], &loaded[1]);
		unload();
		ck_assert_int_eq(store_load_host(store, &host, &error), 0);
		ck_assert(!host.frozen && !host.drained);
		store = store_close(store);
	}
	open_store();
	add_row(&vm, make_row(1, 5, 2, 3), "gold", NULL);
	put_and_wait(vm);
	expect_usage(&all, "1 5 vm1 gold - 2 3\n");
}
END_TEST

START_TEST(version_2_is_migrated)
{
	struct store_host host;

	copy_version(2);
	for (unsigned i = 0; i < 2; i++) { /* once more, from what the first made of it */
		open_store();
		load();
		ck_assert_uint_eq(n_loaded, 2);
		ck_assert_str_eq(loaded[0].name, "web1");
		ck_assert_uint_eq(loaded[0].desired, 5);
		ck_assert(loaded[0].desired_set && !loaded[0].stopped);
		ck_assert_str_eq(loaded[0].assigned_class, "gold");
		ck_assert_str_eq(loaded[0].tenant, "acme");
		ck_assert_int_eq(loaded[0].meters.balance, 49943488808);
		ck_assert_uint_eq(loaded[0].meters.row.number, 2);
		ck_assert_str_eq(loaded[1].name, "db");
		/* what that version did not have */
		for (unsigned j = 0; j < 2; j++) {
			ck_assert_uint_eq(loaded[j].desired_millis, 0);
			ck_assert_int_eq(loaded[j].means, CPUPOLICY_MEANS_PSCI);
			ck_assert(!loaded[j].realm);
		}
		unload();
		ck_assert_int_eq(store_load_host(store, &host, &error), 0);
		ck_assert(!host.frozen && host.drained);
		expect_announcements("");
		store = store_close(store);
	}
}
END_TEST

/* ---- announcements ---- */

static struct store_announcement announcement(unsigned n, const char *provider)
{
	return (struct store_announcement){
		.uuid = {(uint8_t)n},
		.provider = provider ? strdup(provider) : NULL,
		.name = provider ? strdup("web") : NULL,
		.label = provider ? strdup("a:b c") : NULL,
		.class = provider && n % 2 ? strdup("gold") : NULL,
		.uid = n,
		.desired = 10 + n,
		.quota = n % 2,
	};
}

static void put_announcements(unsigned first, unsigned n, const char *provider)
{
	struct store_announcement *list = calloc(n, sizeof(*list));

	for (unsigned i = 0; i < n; i++)
		list[i] = announcement(first + i, provider);
	n_awaited++;
	ck_assert_int_eq(store_put_announcements(store, list, n, on_done, NULL), 0);
	await();
	ck_assert_int_eq(last_error, 0);
}

START_TEST(announcements_are_kept)
{
	open_store();
	expect_announcements("");
	put_announcements(1, 3, "libvirt");
	put_announcements(2, 1, "kube");
	put_announcements(3, 1, NULL);
	put_announcements(9, 1, NULL); /* was not there */
	store = store_close(store);
	open_store();
	expect_announcements("1 libvirt web 1 a:b c gold - 11 1\n2 kube web 2 a:b c - - 12 0\n");
}
END_TEST

START_TEST(bad_announcements_are_found)
{
	static const struct {
		const char *sql, *column;
	} edits[] = {
		{"UPDATE announcement SET uid = -1", "uid"},
		{"UPDATE announcement SET provider = ''", "provider"},
		{"UPDATE announcement SET class = 'a' || char(10)", "class"},
		{"UPDATE announcement SET quota = 2", "quota"},
	};
	char expected[64];

	open_store();
	put_announcements(1, 1, "libvirt");
	store = store_close(store);
	outside(edits[_i].sql);
	open_store();
	ck_assert_int_eq(store_load_announcements(store, keep_announcement, NULL, &error), -EBADMSG);
	snprintf(expected, sizeof(expected), "an announcement has a bad %s", edits[_i].column);
	ck_assert_ptr_nonnull(strstr(error, expected));
}
END_TEST

/* The clock is not trusted for a record that was never metered, even in the boot that wrote it. */
START_TEST(version_1_of_this_boot)
{
	char boot[64], sql[128];
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(boot, sizeof(boot), f));
	fclose(f);
	boot[strcspn(boot, "\n")] = '\0';
	copy_version(1);
	snprintf(sql, sizeof(sql), "UPDATE vm SET boot_id = '%s'", boot);
	outside(sql);
	open_store();
	load();
	ck_assert(loaded[0].other_boot);
	ck_assert_int_eq(loaded[0].pid, 4321);
	unload();
}
END_TEST

/* A migration that was cut off leaves the version before it. */
START_TEST(migration_is_all_or_nothing)
{
	copy_version(1);
	outside("CREATE TABLE host (one)"); /* what its last statement makes */
	ck_assert_int_lt(store_open(&store, loop, directory, &error), 0);
	ck_assert_ptr_nonnull(error);
	free(error);
	error = NULL;
	outside("SELECT CASE WHEN count(*) = 0 THEN 0 ELSE abs(-9223372036854775808) END"
		" FROM pragma_table_info('vm') WHERE name = 'balance'");
	outside("DROP TABLE host");
	open_store();
	load();
	ck_assert_uint_eq(n_loaded, 2);
	unload();
}
END_TEST

/* ---- usage ---- */

START_TEST(rows_go_with_the_record)
{
	struct store_vm vm = make_vm(1);

	add_row(&vm, make_row(1, 10, 100, 0), "gold", "acme");
	add_row(&vm, make_row(2, 11, 200, 20), "iron", NULL);
	vm.meters.row = make_row(3, 12, 300, 30);
	vm.tenant = strdup("acme");
	open_store();
	put_and_wait(vm);
	expect_usage(&all, "1 10 vm1 gold acme 100 0\n"
			   "2 11 vm1 iron - 200 20\n"
			   "3 12 vm1 gold acme 300 30\n");
}
END_TEST

START_TEST(newer_state_of_a_row_replaces_it)
{
	struct store_vm vm;

	open_store();
	for (unsigned i = 1; i <= 3; i++) {
		vm = make_vm(1);
		vm.meters.row = make_row(1, 10, 100 * i, i);
		put_and_wait(vm);
	}
	expect_usage(&all, "1 10 vm1 gold - 300 3\n");
	vm = make_vm(1);
	add_row(&vm, make_row(1, 10, 400, 4), "gold", NULL);
	put_and_wait(vm);
	reopen();
	expect_usage(&all, "1 10 vm1 gold - 400 4\n");
	/* a VM of the same UUID that was made anew counts from 1 again */
	vm = make_vm(1);
	add_row(&vm, make_row(1, 20, 5, 0), "gold", NULL);
	put_and_wait(vm);
	expect_usage(&all, "1 10 vm1 gold - 400 4\n1 20 vm1 gold - 5 0\n");
}
END_TEST

START_TEST(usage_outlives_the_record)
{
	struct store_vm vm = make_vm(1);

	open_store();
	vm.meters.row = make_row(1, 10, 100, 1);
	put_and_wait(vm);
	vm = make_vm(1);
	n_awaited++;
	ck_assert_int_eq(store_delete(store, vm.uuid, on_done, NULL), 0);
	await();
	store_vm_clear(&vm);
	reopen();
	load();
	ck_assert_uint_eq(n_loaded, 0);
	expect_usage(&all, "1 10 vm1 gold - 100 1\n");
}
END_TEST

/* Keeps the writer waiting, as a slow disk would. */
static sqlite3 *block(void)
{
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(database, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	return db;
}

static void unblock(sqlite3 *db)
{
	ck_assert_int_eq(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

/* One write of several: each of them had rows that no other one has. */
START_TEST(rows_of_what_is_overtaken_are_written)
{
	struct store_vm vm;
	sqlite3 *db;

	open_store();
	put_and_wait(make_vm(2));
	db = block();
	put(make_vm(2)); /* the writer has this one, and waits */
	for (unsigned i = 1; i <= 3; i++) {
		vm = make_vm(1);
		add_row(&vm, make_row(i, 10 + i, 100 * i, i), "gold", NULL);
		vm.meters.row = make_row(i + 1, 11 + i, 1, 0);
		put(vm);
	}
	vm = make_vm(1);
	n_awaited++;
	ck_assert_int_eq(store_delete(store, vm.uuid, on_done, NULL), 0);
	add_row(&vm, make_row(1, 30, 7, 7), "iron", NULL);
	put(vm);
	unblock(db);
	await();
	ck_assert_int_eq(last_error, 0);
	expect_usage(&all, "1 11 vm1 gold - 100 1\n"
			   "2 12 vm1 gold - 200 2\n"
			   "3 13 vm1 gold - 300 3\n"
			   "4 14 vm1 gold - 1 0\n"
			   "1 30 vm1 iron - 7 7\n");
}
END_TEST

START_TEST(rows_of_a_record_that_is_deleted_at_once)
{
	struct store_vm vm = make_vm(1);
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	sqlite3 *db;

	open_store();
	put_and_wait(make_vm(2));
	db = block();
	put(make_vm(2));
	vm.meters.row = make_row(1, 10, 100, 1);
	memcpy(uuid, vm.uuid, sizeof(uuid));
	put(vm);
	n_awaited++;
	ck_assert_int_eq(store_delete(store, uuid, on_done, NULL), 0);
	unblock(db);
	await();
	expect_usage(&all, "1 10 vm1 gold - 100 1\n");
}
END_TEST

/* All of one change, or nothing of it. */
START_TEST(rows_and_record_are_one_transaction)
{
	struct store_vm vm = make_vm(1);

	open_store();
	put_and_wait(make_vm(1));
	outside("CREATE TRIGGER t BEFORE INSERT ON vm BEGIN SELECT RAISE(ABORT, 'no room'); END");
	add_row(&vm, make_row(1, 10, 100, 0), "gold", NULL);
	vm.meters.balance = 5;
	put(vm);
	await();
	ck_assert_int_eq(last_error, -EIO);
	expect_usage(&all, "");
	load();
	ck_assert_int_eq(loaded[0].meters.balance, 0);
	unload();
}
END_TEST

static void put_some_usage(void)
{
	for (unsigned i = 1; i <= 3; i++) {
		struct store_vm vm = make_vm(i);

		add_row(&vm, make_row(1, 10, 100 * i, i), "gold", i == 3 ? NULL : "acme");
		add_row(&vm, make_row(2, 11, 100 * i, i), "gold", i == 3 ? NULL : "acme");
		add_row(&vm, make_row(3, 12, 1, 0), "iron", "beta");
		put(vm);
	}
	await();
}

START_TEST(queries_are_filtered)
{
	struct store_vm vm = make_vm(2);

	open_store();
	put_some_usage();
	expect_usage(&(struct store_usage_filter){.since = 11 * HOUR, .until = 12 * HOUR},
		     "2 11 vm1 gold acme 100 1\n2 11 vm2 gold acme 200 2\n2 11 vm3 gold - 300 3\n");
	/* the bounds are of the begin, the second exclusive */
	expect_usage(&(struct store_usage_filter){.since = 11 * HOUR + 2, .until = 11 * HOUR + 3},
		     "2 11 vm1 gold acme 100 1\n2 11 vm2 gold acme 200 2\n2 11 vm3 gold - 300 3\n");
	expect_usage(&(struct store_usage_filter){.since = 11 * HOUR + 3, .until = 12 * HOUR + 3}, "");
	expect_usage(&(struct store_usage_filter){.until = 12 * HOUR, .tenant = ""},
		     "1 10 vm3 gold - 300 3\n2 11 vm3 gold - 300 3\n");
	expect_usage(&(struct store_usage_filter){.until = UINT64_MAX, .tenant = "beta"},
		     "3 12 vm1 iron beta 1 0\n3 12 vm2 iron beta 1 0\n3 12 vm3 iron beta 1 0\n");
	expect_usage(&(struct store_usage_filter){.until = UINT64_MAX, .tenant = "bet"}, "");
	expect_usage(&(struct store_usage_filter){.until = UINT64_MAX, .uuid = vm.uuid, .tenant = "acme"},
		     "1 10 vm2 gold acme 200 2\n2 11 vm2 gold acme 200 2\n");
	store_vm_clear(&vm);
}
END_TEST

START_TEST(totals)
{
	struct store_vm vm = make_vm(1);

	open_store();
	put_some_usage();
	expect_usage(&(struct store_usage_filter){.until = UINT64_MAX, .totals = true}, "2 10 vm3 gold - 600 6\n"
											"2 10 vm1 gold acme 200 2\n"
											"2 10 vm2 gold acme 400 4\n"
											"1 12 vm1 iron beta 1 0\n"
											"1 12 vm2 iron beta 1 0\n"
											"1 12 vm3 iron beta 1 0\n");
	add_row(&vm, make_row(4, 13, INT64_MAX, 0), "iron", "beta");
	put_and_wait(vm);
	query(&(struct store_usage_filter){.until = UINT64_MAX, .totals = true});
	ck_assert_int_eq(last_error, -EOVERFLOW);
	ck_assert_ptr_nonnull(strstr(last_why, "shorter"));
}
END_TEST

#define MANY (2 * STORE_USAGE_BATCH + 1)

static void put_many(void)
{
	struct store_vm vm = make_vm(1);

	for (unsigned i = 1; i <= MANY; i++)
		add_row(&vm, make_row(i, i, i, 0), "gold", NULL);
	put_and_wait(vm);
}

/* What is written while a query runs is not in it: the third step begins after the second batch is delivered. */
START_TEST(batches_are_of_one_moment)
{
	open_store();
	put_many();
	during_first_batch =
		"INSERT INTO usage VALUES (zeroblob(16), 1, 9000000000000000000, 0, 'vm2', 'late', NULL, 1, 1)";
	query(&all);
	during_first_batch = NULL;
	ck_assert_uint_eq(n_found, MANY);
	ck_assert_uint_eq(n_batches, 3);
	/* in order, each once */
	for (unsigned i = 1, at = 0; i <= MANY; i++) {
		unsigned number;
		int length;

		ck_assert_int_eq(sscanf(found + at, "%u %*u vm1 gold - %*u 0%n", &number, &length), 1);
		ck_assert_uint_eq(number, i);
		at += (unsigned)length + 1;
	}
	query(&all);
	ck_assert_uint_eq(n_found, MANY + 1);
}
END_TEST

START_TEST(caller_may_have_enough)
{
	size_t stop_after = 1;

	open_store();
	put_many();
	found[0] = '\0';
	n_found = n_batches = 0;
	ck_assert_int_eq(store_usage_query(store, &all, on_rows, &stop_after), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(n_batches, 1);
	/* the next one is served, and the first not heard of again */
	query(&all);
	ck_assert_uint_eq(n_found, MANY);
}
END_TEST

START_TEST(close_abandons_queries)
{
	open_store();
	put_many();
	n_batches = 0;
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(store_usage_query(store, &all, on_rows, NULL), 0);
	store = store_close(store);
	ck_assert_uint_eq(n_batches, 0);
}
END_TEST

/* ---- backup ---- */

static char target[160];

static void backup(const char *name)
{
	snprintf(target, sizeof(target), "%s/%s", directory, name);
	n_awaited++;
	ck_assert_int_eq(store_backup(store, target, on_done, NULL), 0);
	await();
}

static unsigned count_files(const char *prefix)
{
	char command[256], line[16];
	FILE *f;

	snprintf(command, sizeof(command), "ls %s | grep -c '^%s'", directory, prefix);
	f = popen(command, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	pclose(f);
	return (unsigned)atoi(line);
}

/* All of it is in the one file, and reading it takes no other: bytes 18 and 19 of SQLite's header. */
static void expect_no_log(const char *path)
{
	char head[20];
	FILE *f = fopen(path, "re");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fread(head, 1, sizeof(head), f), sizeof(head));
	fclose(f);
	ck_assert_int_eq(head[18], 1);
	ck_assert_int_eq(head[19], 1);
}

START_TEST(backup_is_a_database)
{
	char other[128];
	struct stat st;

	umask(0);
	open_store();
	put_some_usage();
	put_many();
	backup("copy");
	ck_assert_msg(last_error == 0, "%s", last_why);
	ck_assert_int_eq(stat(target, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_uint_eq(count_files("copy"), 1);
	expect_no_log(target);
	/* a daemon starts with it */
	store = store_close(store);
	snprintf(other, sizeof(other), "%s/other", directory);
	ck_assert_int_eq(mkdir(other, 0700), 0);
	snprintf(other, sizeof(other), "%s/other/state.db", directory);
	ck_assert_int_eq(rename(target, other), 0);
	snprintf(other, sizeof(other), "%s/other", directory);
	ck_assert_int_eq(store_open(&store, loop, other, &error), 0);
	load();
	ck_assert_uint_eq(n_loaded, 3);
	unload();
	query(&all);
	ck_assert_uint_eq(n_found, 9 + MANY);
}
END_TEST

START_TEST(backup_replaces_nothing)
{
	FILE *f;
	char partial[256];

	open_store();
	put_some_usage();
	backup("copy");
	ck_assert_int_eq(last_error, 0);
	backup("copy");
	ck_assert_int_eq(last_error, -EEXIST);
	ck_assert_ptr_nonnull(strstr(last_why, target));
	backup("missing/copy");
	ck_assert_int_eq(last_error, -ENOENT);
	ck_assert_ptr_nonnull(strstr(last_why, target));
	/* nor what another one may be writing at this moment */
	snprintf(partial, sizeof(partial), "%s/third.partial", directory);
	f = fopen(partial, "we");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	backup("third");
	ck_assert_int_eq(last_error, -EEXIST);
	ck_assert_ptr_nonnull(strstr(last_why, partial));
	ck_assert_int_eq(access(partial, F_OK), 0);
}
END_TEST

START_TEST(backup_that_has_no_room_leaves_nothing)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	open_store();
	put_many();
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 20000;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	backup("copy");
	ck_assert_int_lt(last_error, 0);
	ck_assert_ptr_nonnull(strstr(last_why, target));
	limit.rlim_cur = RLIM_INFINITY;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	backup("another");
	ck_assert_msg(last_error == 0, "%s", last_why);
	ck_assert_int_eq(access(target, F_OK), 0);
	snprintf(target, sizeof(target), "%s/copy", directory);
	ck_assert_int_lt(access(target, F_OK), 0);
	ck_assert_uint_eq(count_files("copy"), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_level");
	TCase *tc = tcase_create("store_level");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, every_field_survives);
	tcase_add_test(tc, what_is_not_assigned_stays_so);
	tcase_add_test(tc, clock_of_another_boot_is_said);
	tcase_add_loop_test(tc, damaged_record, 0, 4);
	tcase_add_test(tc, modes_of_the_host);
	tcase_add_test(tc, version_1_is_migrated);
	tcase_add_test(tc, version_2_is_migrated);
	tcase_add_test(tc, announcements_are_kept);
	tcase_add_loop_test(tc, bad_announcements_are_found, 0, 4);
	tcase_add_test(tc, version_1_of_this_boot);
	tcase_add_test(tc, migration_is_all_or_nothing);
	tcase_add_test(tc, rows_go_with_the_record);
	tcase_add_test(tc, newer_state_of_a_row_replaces_it);
	tcase_add_test(tc, usage_outlives_the_record);
	tcase_add_test(tc, rows_of_what_is_overtaken_are_written);
	tcase_add_test(tc, rows_of_a_record_that_is_deleted_at_once);
	tcase_add_test(tc, rows_and_record_are_one_transaction);
	tcase_add_test(tc, queries_are_filtered);
	tcase_add_test(tc, totals);
	tcase_add_test(tc, batches_are_of_one_moment);
	tcase_add_test(tc, caller_may_have_enough);
	tcase_add_test(tc, close_abandons_queries);
	tcase_add_test(tc, backup_is_a_database);
	tcase_add_test(tc, backup_replaces_nothing);
	tcase_add_test(tc, backup_that_has_no_room_leaves_nothing);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
