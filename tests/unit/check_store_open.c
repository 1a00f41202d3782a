/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What store_open() meets: nothing, another daemon, files that are damaged, foreign, newer, or out of reach. */

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/store/store.h"
#include "daemon/base/util.h"

static struct loop *loop;
static struct store *store, *second;
static char directory[64];
static char database[128];
static char *error;

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	/* Root may write what is read-only. */
	if (getuid() == 0)
		ck_assert_int_eq(setresgid(65534, 65534, 65534) | setresuid(65534, 65534, 65534), 0);
	strcpy(directory, "/tmp/check-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(database, sizeof(database), "%s/state.db", directory);
	store = NULL;
	second = NULL;
	error = NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	store = store_close(store);
	second = store_close(second);
	loop = loop_free(loop);
	free(error);
	chmod(directory, 0700);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int open_at(const char *path)
{
	free(error);
	error = NULL;
	return store_open(&store, loop, path, &error);
}

static void open_store(void)
{
	int r = open_at(directory);

	ck_assert_msg(r == 0, "%s", error ? error : strerror(-r));
	ck_assert_ptr_null(error);
}

static void expect_failure(int r, const char *text)
{
	ck_assert_int_eq(open_at(directory), r);
	ck_assert_ptr_null(store);
	ck_assert_ptr_nonnull(error);
	ck_assert_msg(strstr(error, text) != NULL, "%s", error);
	ck_assert_msg(strstr(error, directory) != NULL, "%s", error);
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

static void write_file(const char *path, const void *bytes, size_t size)
{
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
	ck_assert_int_eq(fclose(f), 0);
}

static char *read_file(const char *path, size_t *ret_size)
{
	FILE *f = fopen(path, "re");
	char *bytes = malloc(1 << 20);

	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(bytes);
	*ret_size = fread(bytes, 1, 1 << 20, f);
	fclose(f);
	return bytes;
}

/* The attempt fails, and the database is as it was, byte for byte. */
static void expect_failure_that_changes_nothing(int r, const char *text)
{
	size_t before_size, after_size;
	_cleanup_free_ char *before = read_file(database, &before_size), *after = NULL;

	expect_failure(r, text);
	after = read_file(database, &after_size);
	ck_assert_uint_eq(before_size, after_size);
	ck_assert_mem_eq(before, after, after_size);
}

static unsigned n_vms;

static int count(struct store_vm *vm, void *userdata)
{
	n_vms++;
	return 0;
}

static void on_done(int r, const char *why, void *userdata)
{
	ck_assert_msg(r == 0, "%s", why);
	loop_quit(loop);
}

static void put_one(void)
{
	struct store_vm vm = {
		.uuid = {1},
		.name = strdup("vm"),
		.possible = 4,
		.enabled = calloc(1, 1),
		.wanted = calloc(1, 1),
	};

	ck_assert_int_eq(store_put(store, &vm, on_done, NULL), 0);
	ck_assert_int_eq(loop_run(loop), 0);
}

/* ---- a state directory, from nothing ---- */

static mode_t mode_of(const char *name)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_mode & 07777;
}

START_TEST(creates_what_is_missing_for_its_user_only)
{
	umask(0);
	ck_assert_int_eq(rmdir(directory), 0);
	open_store();
	put_one();
	ck_assert_uint_eq(mode_of(""), 0700);
	ck_assert_uint_eq(mode_of("lock"), 0600);
	ck_assert_uint_eq(mode_of("state.db"), 0600);
	ck_assert_uint_eq(mode_of("state.db-wal"), 0600);
}
END_TEST

START_TEST(empty_file_is_a_start_that_did_not_get_far)
{
	write_file(database, "", 0);
	open_store();
	put_one();
}
END_TEST

START_TEST(directory_that_cannot_be)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/a/b", directory);
	ck_assert_int_eq(open_at(path), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, path));
	ck_assert_ptr_nonnull(strstr(error, "cannot create the state directory"));
	snprintf(path, sizeof(path), "%s/file", directory);
	write_file(path, "x", 1);
	ck_assert_int_eq(open_at(path), -ENOTDIR);
	ck_assert_ptr_nonnull(strstr(error, path));
}
END_TEST

/* ---- one daemon ---- */

START_TEST(second_one_is_refused)
{
	char pid[32];

	open_store();
	ck_assert_int_eq(store_open(&second, loop, directory, &error), -EBUSY);
	ck_assert_ptr_null(second);
	snprintf(pid, sizeof(pid), "(pid %d)", getpid());
	ck_assert_ptr_nonnull(strstr(error, pid));
	ck_assert_ptr_nonnull(strstr(error, directory));
	/* The first one is none the worse for it, and once it is gone the next one may. */
	put_one();
	store = store_close(store);
	free(error);
	error = NULL;
	ck_assert_int_eq(store_open(&second, loop, directory, &error), 0);
}
END_TEST

/* Nothing of the database is looked at before the lock is had. */
START_TEST(lock_comes_first)
{
	open_store();
	unlink(database);
	ck_assert_int_eq(store_open(&second, loop, directory, &error), -EBUSY);
	ck_assert_int_eq(access(database, F_OK), -1);
}
END_TEST

START_TEST(failed_open_gives_the_lock_back)
{
	write_file(database, "not a database, but long enough to be read as one by somebody", 60);
	expect_failure(-EBADMSG, "damaged");
	unlink(database);
	open_store();
}
END_TEST

START_TEST(stale_lock_file_is_no_lock)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/lock", directory);
	write_file(path, "1\n", 2);
	open_store();
}
END_TEST

/* ---- files that are not as they should be ---- */

START_TEST(garbage)
{
	char bytes[8192];

	srandom(7);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)random();
	write_file(database, bytes, sizeof(bytes));
	expect_failure_that_changes_nothing(-EBADMSG, "damaged");
}
END_TEST

START_TEST(damaged_page)
{
	_cleanup_free_ char *bytes = NULL;
	size_t size;

	open_store();
	put_one();
	store = store_close(store);
	bytes = read_file(database, &size);
	ck_assert_uint_ge(size, 8192);
	memset(bytes + 4096, 0x55, size - 4096);
	write_file(database, bytes, size);
	expect_failure_that_changes_nothing(-EBADMSG, "damaged");
}
END_TEST

START_TEST(truncated)
{
	_cleanup_free_ char *bytes = NULL;
	size_t size;

	open_store();
	put_one();
	store = store_close(store);
	bytes = read_file(database, &size);
	write_file(database, bytes, 4096);
	expect_failure_that_changes_nothing(-EBADMSG, "damaged");
}
END_TEST

START_TEST(database_of_another_program)
{
	outside("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
	expect_failure_that_changes_nothing(-EBADMSG, "not one of cpupolicyd");
}
END_TEST

START_TEST(newer_version)
{
	open_store();
	put_one();
	store = store_close(store);
	outside("PRAGMA user_version = 1000");
	expect_failure_that_changes_nothing(-ENOTSUP, "newer cpupolicyd");
	ck_assert_ptr_nonnull(strstr(error, "1000"));
	outside("PRAGMA user_version = 3");
	open_store();
	n_vms = 0;
	ck_assert_int_eq(store_load(store, count, NULL, &error), 0);
	ck_assert_uint_eq(n_vms, 1);
}
END_TEST

/* A newer one that was killed left part of its database in the log; closing it must not fold that in. */
START_TEST(newer_version_with_a_log)
{
	char wal[sizeof(database) + 8];
	_cleanup_free_ char *before = NULL, *after = NULL;
	size_t before_size, after_size;
	sqlite3 *db;

	open_store();
	store = store_close(store);
	snprintf(wal, sizeof(wal), "%s-wal", database);
	ck_assert_int_eq(sqlite3_open(database, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, "PRAGMA user_version = 1000", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	before = read_file(wal, &before_size);
	ck_assert_uint_gt(before_size, 4096);
	expect_failure_that_changes_nothing(-ENOTSUP, "newer cpupolicyd");
	after = read_file(wal, &after_size);
	ck_assert_uint_eq(before_size, after_size);
	ck_assert_mem_eq(before, after, after_size);
}
END_TEST

/* Somebody's edits: the table is whole, a value is not. */
START_TEST(damaged_record)
{
	static const struct {
		const char *sql, *column;
	} damages[] = {
		{"UPDATE vm SET uuid = x'01'", "uuid"},
		{"UPDATE vm SET token = zeroblob(17)", "token"},
		{"UPDATE vm SET name = ''", "name"},
		{"UPDATE vm SET name = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "name"},
		{"UPDATE vm SET possible = 0", "possible"},
		{"UPDATE vm SET possible = 513", "possible"},
		{"UPDATE vm SET possible = 9", "enabled"},
		{"UPDATE vm SET wanted = x''", "wanted"},
		{"UPDATE vm SET desired = -1", "desired"},
		{"UPDATE vm SET epoch = 4294967296", "epoch"},
		{"UPDATE vm SET stopped = 2", "stopped"},
		{"UPDATE vm SET pid = -2", "pid"},
		{"UPDATE vm SET last_job_result = 9", "last_job_result"},
		{"UPDATE vm SET job_result = -1", "job_result"},
	};
	char expected[64];

	open_store();
	put_one();
	store = store_close(store);
	outside(damages[_i].sql);
	open_store();
	ck_assert_int_eq(store_load(store, count, NULL, &error), -EBADMSG);
	snprintf(expected, sizeof(expected), "has a bad %s", damages[_i].column);
	ck_assert_msg(strstr(error, expected) != NULL, "%s", error);
	ck_assert_ptr_nonnull(strstr(error, directory));
}
END_TEST

/* ---- files out of reach ---- */

START_TEST(read_only_directory)
{
	ck_assert_int_eq(chmod(directory, 0500), 0);
	expect_failure(-EACCES, "cannot open");
}
END_TEST

START_TEST(read_only_database)
{
	open_store();
	put_one();
	store = store_close(store);
	ck_assert_int_eq(chmod(database, 0400), 0);
	expect_failure_that_changes_nothing(-EROFS, "cannot be written");
}
END_TEST

START_TEST(unreadable_database)
{
	open_store();
	store = store_close(store);
	ck_assert_int_eq(chmod(database, 0), 0);
	expect_failure(-EACCES, "Permission denied");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_open");
	TCase *tc = tcase_create("store_open");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, creates_what_is_missing_for_its_user_only);
	tcase_add_test(tc, empty_file_is_a_start_that_did_not_get_far);
	tcase_add_test(tc, directory_that_cannot_be);
	tcase_add_test(tc, second_one_is_refused);
	tcase_add_test(tc, lock_comes_first);
	tcase_add_test(tc, failed_open_gives_the_lock_back);
	tcase_add_test(tc, stale_lock_file_is_no_lock);
	tcase_add_test(tc, garbage);
	tcase_add_test(tc, damaged_page);
	tcase_add_test(tc, truncated);
	tcase_add_test(tc, database_of_another_program);
	tcase_add_test(tc, newer_version);
	tcase_add_test(tc, newer_version_with_a_log);
	tcase_add_loop_test(tc, damaged_record, 0, 14);
	tcase_add_test(tc, read_only_directory);
	tcase_add_test(tc, read_only_database);
	tcase_add_test(tc, unreadable_database);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
