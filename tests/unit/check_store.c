/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/peer.h"
#include "daemon/store/store.h"
#include "daemon/base/util.h"

#define DEADLINE (30 * NSEC_PER_SEC)

static struct loop *loop;
static struct store *store;
static char directory[64];
static char database[128];
static char *error;

/* SQLite's calls come here, since the program's symbols go before the C library's. */
static unsigned n_syncs;

int fdatasync(int fd)
{
	__atomic_add_fetch(&n_syncs, 1, __ATOMIC_SEQ_CST);
	return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
	__atomic_add_fetch(&n_syncs, 1, __ATOMIC_SEQ_CST);
	return (int)syscall(SYS_fsync, fd);
}

/* ---- the scene ---- */

static void make_directory(void)
{
	strcpy(directory, "/tmp/check-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(database, sizeof(database), "%s/state.db", directory);
}

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	make_directory();
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
	chmod(directory, 0700);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int try_open(void)
{
	free(error);
	error = NULL;
	return store_open(&store, loop, directory, &error);
}

static void open_store(void)
{
	int r = try_open();

	ck_assert_msg(r == 0, "%s", error ? error : strerror(-r));
}

static void reopen(void)
{
	store = store_close(store);
	open_store();
}

static struct store_vm make_vm(unsigned number, uint32_t epoch)
{
	struct store_vm vm = {
		.possible = 9,
		.boot = 2,
		.desired = 3,
		.epoch = epoch,
		.uid = 1000,
		.pid = 77,
		.start_time = 1234567,
		.desired_uid = (uint32_t)-1,
		.enabled = calloc(2, 1),
		.wanted = calloc(2, 1),
	};

	ck_assert_int_gt(asprintf(&vm.name, "vm%u", number), 0);
	vm.uuid[0] = (uint8_t)(number >> 8);
	vm.uuid[1] = (uint8_t)number;
	vm.uuid[15] = 1;
	return vm;
}

/* ---- waiting for outcomes ---- */

struct outcome {
	unsigned calls;
	int error;
	char why[256];
};

static unsigned n_awaited;

static void on_done(int r, const char *why, void *userdata)
{
	struct outcome *o = userdata;

	ck_assert((r == 0) == (why == NULL));
	o->calls++;
	o->error = r;
	snprintf(o->why, sizeof(o->why), "%s", why ? why : "");
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

static void put(struct store_vm vm, struct outcome *o)
{
	ck_assert_int_eq(store_put(store, &vm, on_done, o), 0);
	ck_assert_ptr_null(vm.name); /* taken over */
	n_awaited++;
}

static void put_and_wait(unsigned number, uint32_t epoch)
{
	struct outcome o = {0};

	put(make_vm(number, epoch), &o);
	await();
	ck_assert_msg(o.error == 0, "%s", o.why);
}

/* ---- what is on record ---- */

#define MAX_LOADED 300

static struct store_vm loaded[MAX_LOADED];
static unsigned n_loaded;

static int on_load(struct store_vm *vm, void *userdata)
{
	ck_assert_uint_lt(n_loaded, MAX_LOADED);
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

static const struct store_vm *find(const char *name)
{
	for (unsigned i = 0; i < n_loaded; i++)
		if (strcmp(loaded[i].name, name) == 0)
			return &loaded[i];
	return NULL;
}

/* Another program's access to the same database. */
static void outside(const char *sql)
{
	sqlite3 *db;
	char *message = NULL;

	ck_assert_int_eq(sqlite3_open(database, &db), SQLITE_OK);
	sqlite3_exec(db, sql, NULL, NULL, &message);
	ck_assert_msg(!message, "%s", message);
	sqlite3_close(db);
}

/* ---- records ---- */

START_TEST(every_field_survives)
{
	struct store_vm vm = make_vm(1, UINT32_MAX);
	struct outcome o = {0};
	const struct store_vm *r;

	for (unsigned i = 0; i < sizeof(vm.token); i++)
		vm.token[i] = (uint8_t)(200 + i);
	vm.possible = 512;
	vm.boot = 511;
	vm.desired = 510;
	vm.desired_set = true;
	vm.boot_removable = true;
	vm.notify = true;
	vm.stopped = true;
	vm.enabled = realloc(vm.enabled, 64);
	vm.wanted = realloc(vm.wanted, 64);
	memset(vm.enabled, 0xa5, 64);
	memset(vm.wanted, 0x5a, 64);
	vm.uid = UINT32_MAX - 1;
	vm.start_time = UINT64_MAX - 1;
	vm.desired_uid = 12;
	vm.job = (struct job){
		.id = 1ull << 63,
		.from = 1,
		.to = 2,
		.result = JOB_RUNNING,
		.uid = 3,
		.pending = 4,
		.settled = 5,
		.refused = 6,
		.forbidden = true,
		.online = true,
		.stopped = true,
		.deadline = UINT64_MAX,
		.remaining = 7,
	};
	vm.last_job = (struct job){.id = 8, .from = 9, .to = 10, .result = JOB_RESULT_MAX, .uid = 11, .deadline = 13};
	open_store();
	put(vm, &o);
	await();
	ck_assert_int_eq(o.error, 0);
	reopen();
	load();
	ck_assert_uint_eq(n_loaded, 1);
	r = &loaded[0];
	ck_assert_mem_eq(r->uuid, vm.uuid, sizeof(vm.uuid));
	ck_assert_mem_eq(r->token, vm.token, sizeof(vm.token));
	ck_assert_str_eq(r->name, "vm1");
	ck_assert_uint_eq(r->possible, 512);
	ck_assert_uint_eq(r->boot, 511);
	ck_assert_uint_eq(r->desired, 510);
	ck_assert(r->desired_set && r->boot_removable && r->notify && r->stopped);
	ck_assert_uint_eq(r->epoch, UINT32_MAX);
	for (unsigned i = 0; i < 64; i++) {
		ck_assert_uint_eq(r->enabled[i], 0xa5);
		ck_assert_uint_eq(r->wanted[i], 0x5a);
	}
	ck_assert_uint_eq(r->uid, UINT32_MAX - 1);
	ck_assert_int_eq(r->pid, 77);
	ck_assert_uint_eq(r->start_time, UINT64_MAX - 1);
	ck_assert_uint_eq(r->desired_uid, 12);
	ck_assert_uint_eq(r->job.id, 1ull << 63);
	ck_assert_uint_eq(r->job.from, 1);
	ck_assert_uint_eq(r->job.to, 2);
	ck_assert_int_eq(r->job.result, JOB_RUNNING);
	ck_assert_uint_eq(r->job.uid, 3);
	ck_assert_uint_eq(r->job.pending, 4);
	ck_assert_uint_eq(r->job.settled, 5);
	ck_assert_uint_eq(r->job.refused, 6);
	ck_assert(r->job.forbidden && r->job.online && r->job.stopped);
	ck_assert_uint_eq(r->job.deadline, UINT64_MAX);
	ck_assert_uint_eq(r->job.remaining, 7);
	ck_assert_uint_eq(r->last_job.id, 8);
	ck_assert_uint_eq(r->last_job.from, 9);
	ck_assert_uint_eq(r->last_job.to, 10);
	ck_assert_int_eq(r->last_job.result, JOB_RESULT_MAX);
	ck_assert_uint_eq(r->last_job.uid, 11);
	ck_assert(!r->last_job.forbidden && !r->last_job.online && !r->last_job.stopped);
	ck_assert_uint_eq(r->last_job.deadline, 13);
	unload();
}
END_TEST

START_TEST(delete_forgets)
{
	struct outcome o = {0};
	struct store_vm vm = make_vm(1, 1);

	open_store();
	put_and_wait(1, 1);
	put_and_wait(2, 1);
	n_awaited++;
	ck_assert_int_eq(store_delete(store, vm.uuid, on_done, &o), 0);
	await();
	ck_assert_int_eq(o.error, 0);
	reopen();
	load();
	ck_assert_uint_eq(n_loaded, 1);
	ck_assert_ptr_nonnull(find("vm2"));
	unload();
	store_vm_clear(&vm);
}
END_TEST

START_TEST(process_of_an_earlier_boot_is_gone)
{
	open_store();
	put_and_wait(1, 1);
	put_and_wait(2, 1);
	store = store_close(store);
	outside("UPDATE vm SET boot_id = '00000000-0000-0000-0000-000000000000' WHERE name = 'vm1'");
	open_store();
	load();
	ck_assert_int_eq(find("vm1")->pid, PEER_PID_GONE);
	ck_assert_int_eq(find("vm2")->pid, 77);
	/* written and read once more it is still that */
	put(loaded[0], &(struct outcome){0});
	loaded[0] = make_vm(1, 1);
	await();
	load();
	ck_assert_int_eq(find("vm1")->pid, PEER_PID_GONE);
	unload();
}
END_TEST

static int refuse(struct store_vm *vm, void *userdata)
{
	unsigned *calls = userdata;

	++*calls;
	return -EXDEV;
}

START_TEST(load_stops_when_told)
{
	unsigned calls = 0;

	open_store();
	put_and_wait(1, 1);
	put_and_wait(2, 1);
	ck_assert_int_eq(store_load(store, refuse, &calls, &error), -EXDEV);
	ck_assert_uint_eq(calls, 1);
}
END_TEST

/* ---- the queue ---- */

/* The blocker keeps the writer waiting, as a slow disk would. */
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

/* Transactions in the log: frames that say how large the database is after them. */
static unsigned count_commits(void)
{
	char path[sizeof(database) + 8];
	unsigned char head[32], frame[24];
	unsigned n = 0;
	uint32_t page;
	FILE *f;

	snprintf(path, sizeof(path), "%s-wal", database);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fread(head, 1, sizeof(head), f), sizeof(head));
	page = (uint32_t)head[8] << 24 | (uint32_t)head[9] << 16 | (uint32_t)head[10] << 8 | head[11];
	while (fread(frame, 1, sizeof(frame), f) == sizeof(frame)) {
		n += frame[4] || frame[5] || frame[6] || frame[7];
		ck_assert_int_eq(fseek(f, page, SEEK_CUR), 0);
	}
	fclose(f);
	return n;
}

START_TEST(what_waits_is_one_transaction)
{
	struct outcome o[200] = {0};
	unsigned before;
	sqlite3 *db;

	open_store();
	put_and_wait(1000, 1);
	before = count_commits();
	db = block();
	for (unsigned i = 0; i < ARRAY_SIZE(o); i++)
		put(make_vm(i, 1), &o[i]);
	unblock(db);
	await();
	for (unsigned i = 0; i < ARRAY_SIZE(o); i++) {
		ck_assert_uint_eq(o[i].calls, 1);
		ck_assert_int_eq(o[i].error, 0);
	}
	/* one for what the writer took at once, one for all that came while it was busy */
	ck_assert_uint_le(count_commits() - before, 2);
	load();
	ck_assert_uint_eq(n_loaded, ARRAY_SIZE(o) + 1);
	unload();
}
END_TEST

START_TEST(latest_wins_and_all_are_answered)
{
	struct outcome a[10] = {0}, b[10] = {0};
	struct store_vm vm = make_vm(2, 0);
	sqlite3 *db;

	open_store();
	put_and_wait(1, 1);
	db = block();
	for (unsigned i = 0; i < ARRAY_SIZE(a); i++) {
		put(make_vm(1, 100 + i), &a[i]);
		put(make_vm(2, 200 + i), &b[i]);
	}
	ck_assert_int_eq(store_delete(store, vm.uuid, on_done, &b[0]), 0);
	n_awaited++;
	unblock(db);
	await();
	for (unsigned i = 0; i < ARRAY_SIZE(a); i++) {
		ck_assert_uint_eq(a[i].calls, 1);
		ck_assert_uint_eq(b[i].calls, i == 0 ? 2 : 1);
	}
	reopen();
	load();
	ck_assert_uint_eq(n_loaded, 1);
	ck_assert_uint_eq(find("vm1")->epoch, 109);
	unload();
	store_vm_clear(&vm);
}
END_TEST

static void put_another(int r, const char *why, void *userdata)
{
	put(make_vm(2, 7), userdata);
	on_done(r, why, userdata);
}

START_TEST(callbacks_may_queue)
{
	struct outcome o = {0};
	struct store_vm vm = make_vm(1, 1);

	open_store();
	n_awaited++;
	ck_assert_int_eq(store_put(store, &vm, put_another, &o), 0);
	await();
	ck_assert_uint_eq(o.calls, 2);
	load();
	ck_assert_uint_eq(find("vm2")->epoch, 7);
	unload();
}
END_TEST

START_TEST(close_finishes_what_is_queued)
{
	struct outcome o = {0};

	open_store();
	for (unsigned i = 0; i < 50; i++)
		put(make_vm(i, i), &o);
	reopen();
	ck_assert_uint_eq(o.calls, 0);
	load();
	ck_assert_uint_eq(n_loaded, 50);
	unload();
}
END_TEST

START_TEST(told_only_after_it_is_synced)
{
	open_store();
	for (unsigned i = 0; i < 5; i++) {
		unsigned before = __atomic_load_n(&n_syncs, __ATOMIC_SEQ_CST);

		put_and_wait(1, i);
		ck_assert_uint_gt(__atomic_load_n(&n_syncs, __ATOMIC_SEQ_CST), before);
	}
}
END_TEST

/* ---- failures while running ---- */

START_TEST(bad_record_does_not_fail_others)
{
	struct outcome o[10] = {0};
	sqlite3 *db;

	open_store();
	outside("CREATE TRIGGER t BEFORE INSERT ON vm WHEN new.name = 'vm4' BEGIN SELECT RAISE(ABORT, 'no room'); END");
	db = block();
	for (unsigned i = 0; i < ARRAY_SIZE(o); i++)
		put(make_vm(i, 1), &o[i]);
	unblock(db);
	await();
	for (unsigned i = 0; i < ARRAY_SIZE(o); i++)
		ck_assert_int_eq(o[i].error, i == 4 ? -EIO : 0);
	ck_assert_ptr_nonnull(strstr(o[4].why, "cannot record the VM vm4"));
	ck_assert_ptr_nonnull(strstr(o[4].why, "no room"));
	load();
	ck_assert_uint_eq(n_loaded, ARRAY_SIZE(o) - 1);
	ck_assert_ptr_null(find("vm4"));
	unload();
}
END_TEST

/* Writes until it fails, makes room, writes again: what succeeded is there, what failed is not. */
static void fill_up(void (*make_room)(void))
{
	struct outcome o;
	unsigned n = 0;

	do {
		ck_assert_uint_lt(n, MAX_LOADED - 1);
		o = (struct outcome){0};
		put(make_vm(n++, 1), &o);
		await();
	} while (o.error == 0);
	ck_assert_msg(o.error == -ENOSPC, "%s", o.why);
	ck_assert_ptr_nonnull(strstr(o.why, directory));
	ck_assert_ptr_nonnull(strstr(o.why, "is full"));
	ck_assert_ptr_nonnull(strstr(o.why, "cannot record the VM vm"));
	ck_assert_uint_gt(n, 5);
	/* The last did not make it, and it stays so until there is room. */
	load();
	ck_assert_uint_eq(n_loaded, n - 1);
	o = (struct outcome){0};
	put(make_vm(n, 1), &o);
	await();
	ck_assert_int_eq(o.error, -ENOSPC);
	make_room();
	put_and_wait(n, 2);
	reopen();
	load();
	ck_assert_uint_eq(n_loaded, n);
	unload();
}

static void set_file_size(rlim_t size)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = size;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void lift_limit(void)
{
	set_file_size(RLIM_INFINITY);
}

START_TEST(file_size_limit)
{
	signal(SIGXFSZ, SIG_IGN);
	open_store();
	put_and_wait(500, 1);
	store = store_close(store); /* the log starts anew */
	open_store();
	set_file_size(200000);
	/* vm500 is counted by fill_up() as the one that fails in its place */
	outside("DELETE FROM vm");
	fill_up(lift_limit);
}
END_TEST

static char ballast[128];

static void remove_ballast(void)
{
	ck_assert_int_eq(unlink(ballast), 0);
}

/* A file system of its own, full but for a few pages. */
START_TEST(full_disk)
{
	static char bytes[512 << 10];
	int fd;

	if (unshare(CLONE_NEWNS | (getuid() == 0 ? 0 : CLONE_NEWUSER)) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", directory, "tmpfs", 0, "size=1m") < 0) {
		fprintf(stderr, "full_disk: no mount namespace here (%m), left out; file_size_limit covers the code\n");
		return;
	}
	snprintf(ballast, sizeof(ballast), "%s/ballast", directory);
	fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	close(fd);
	open_store();
	fill_up(remove_ballast);
	store = store_close(store);
	umount2(directory, MNT_DETACH);
}
END_TEST

START_TEST(other_program_that_holds_the_database)
{
	struct outcome o = {0};
	sqlite3 *db;

	open_store();
	db = block();
	put(make_vm(1, 1), &o);
	await(); /* for SQLite's busy timeout */
	ck_assert_int_eq(o.error, -EBUSY);
	ck_assert_ptr_nonnull(strstr(o.why, "another program holds the database"));
	unblock(db);
	put_and_wait(1, 1);
}
END_TEST

/* ---- kill -9 ---- */

#define KILL_ROUNDS 12
#define KILL_VMS    20

struct receipt {
	uint32_t vm;
	uint32_t epoch;
};

static int receipts[2];
static uint32_t epochs[KILL_VMS];

static void send_receipt(int r, const char *why, void *userdata)
{
	struct receipt receipt = {.vm = (uint32_t)(uintptr_t)userdata};
	struct store_vm vm;

	receipt.epoch = epochs[receipt.vm]++;
	if (r != 0 || write(receipts[1], &receipt, sizeof(receipt)) != sizeof(receipt))
		_exit(1);
	vm = make_vm(receipt.vm, epochs[receipt.vm]);
	if (store_put(store, &vm, send_receipt, userdata) < 0)
		_exit(1);
}

/* Writes ever higher epochs for each VM, and says of each that was answered that it is durable. */
static void work_until_killed(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (loop_new(&loop) < 0 || try_open() < 0)
		_exit(2);
	for (uintptr_t i = 0; i < KILL_VMS; i++) {
		struct store_vm vm = make_vm((unsigned)i, epochs[i]);

		if (store_put(store, &vm, send_receipt, (void *)i) < 0)
			_exit(3);
	}
	loop_run(loop);
	_exit(4);
}

/* `n` receipts, then the signal at whatever moment that is, then those that it had sent before. */
static void kill_after(pid_t pid, unsigned n, uint32_t *durable)
{
	struct receipt receipt;
	int status;

	while (read(receipts[0], &receipt, sizeof(receipt)) == sizeof(receipt)) {
		ck_assert_uint_lt(receipt.vm, KILL_VMS);
		ck_assert_uint_ge(receipt.epoch, durable[receipt.vm]);
		durable[receipt.vm] = receipt.epoch;
		if (n > 0 && --n == 0)
			ck_assert_int_eq(kill(pid, SIGKILL), 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

START_TEST(what_was_told_survives_kill)
{
	uint32_t durable[KILL_VMS] = {0};

	srandom((unsigned)getpid());
	for (unsigned round = 0; round < KILL_ROUNDS; round++) {
		unsigned n = 1 + (unsigned)random() % 300;
		pid_t pid;

		ck_assert_int_eq(pipe2(receipts, O_CLOEXEC), 0);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			work_until_killed();
		close(receipts[1]);
		kill_after(pid, n, durable);
		close(receipts[0]);

		open_store(); /* the lock went with the process, the database is whole */
		load();
		ck_assert_uint_eq(n_loaded, KILL_VMS);
		for (unsigned i = 0; i < KILL_VMS; i++) {
			ck_assert_uint_ge(loaded[i].epoch, durable[i]);
			epochs[i] = loaded[i].epoch + 1;
		}
		unload();
		store = store_close(store);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store");
	TCase *tc = tcase_create("store");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, every_field_survives);
	tcase_add_test(tc, delete_forgets);
	tcase_add_test(tc, process_of_an_earlier_boot_is_gone);
	tcase_add_test(tc, load_stops_when_told);
	tcase_add_test(tc, what_waits_is_one_transaction);
	tcase_add_test(tc, latest_wins_and_all_are_answered);
	tcase_add_test(tc, callbacks_may_queue);
	tcase_add_test(tc, close_finishes_what_is_queued);
	tcase_add_test(tc, told_only_after_it_is_synced);
	tcase_add_test(tc, bad_record_does_not_fail_others);
	tcase_add_test(tc, file_size_limit);
	tcase_add_test(tc, full_disk);
	tcase_add_test(tc, other_program_that_holds_the_database);
	tcase_add_test(tc, what_was_told_survives_kill);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
