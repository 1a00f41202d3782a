/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/powerloss.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/util.h"

#define SECTOR 512
#define FILES  16

/* Since the last sync; in order. */
struct change {
	struct change *next;
	bool truncation; /* to `offset` */
	sqlite3_int64 offset;
	size_t size;
	uint8_t data[];
};

struct image {
	char path[256];
	bool there;    /* on the disk proper */
	bool unlinked; /* but not as programs see it: its directory was not synced since */
	uint8_t *data; /* as of the last sync */
	size_t size;
	struct change *changes, **changes_end;
};

struct file {
	sqlite3_file base;
	struct image *image; /* NULL: not one that is watched */
	sqlite3_file *real;
};

static struct {
	pthread_mutex_t mutex;
	sqlite3_vfs *real;
	sqlite3_vfs vfs;
	struct image images[FILES];
	unsigned n_images;
	uint64_t random;
	unsigned left; /* operations until power is lost; 0: it is not planned */
	unsigned operations;
	bool lost;
	bool lie;
	void (*fn)(void);
} disk = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- chance ---- */

/* xorshift64*; under the mutex, or while nobody else runs */
static uint64_t chance(uint64_t below)
{
	disk.random ^= disk.random >> 12;
	disk.random ^= disk.random << 25;
	disk.random ^= disk.random >> 27;
	return disk.random * UINT64_C(0x2545f4914f6cdd1d) % below;
}

uint64_t powerloss_random(uint64_t below)
{
	uint64_t r;

	pthread_mutex_lock(&disk.mutex);
	r = chance(below);
	pthread_mutex_unlock(&disk.mutex);
	return r;
}

/* ---- images ---- */

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static void write_image(struct image *image, sqlite3_int64 offset, const void *data, size_t size)
{
	size_t end = (size_t)offset + size;

	if (end > image->size) {
		image->data = must(realloc(image->data, end));
		memset(image->data + image->size, 0, end - image->size);
		image->size = end;
	}
	memcpy(image->data + offset, data, size);
}

static void truncate_image(struct image *image, sqlite3_int64 size)
{
	if ((size_t)size < image->size)
		image->size = (size_t)size;
}

static void drop_changes(struct image *image)
{
	struct change *c;

	while ((c = image->changes)) {
		image->changes = c->next;
		free(c);
	}
	image->changes_end = &image->changes;
}

static void apply(struct image *image, const struct change *c)
{
	if (c->truncation)
		truncate_image(image, c->offset);
	else
		write_image(image, c->offset, c->data, c->size);
}

static void unlink_image(struct image *image)
{
	drop_changes(image);
	image->there = image->unlinked = false;
	image->size = 0;
}

static void sync_directory(void)
{
	for (unsigned i = 0; i < disk.n_images; i++)
		if (disk.images[i].unlinked)
			unlink_image(&disk.images[i]);
}

static void sync_image(struct image *image)
{
	for (const struct change *c = image->changes; c; c = c->next)
		apply(image, c);
	drop_changes(image);
	/* as SQLite does with a file that it made, and the directory is that of all */
	if (!image->there)
		sync_directory();
	image->there = true;
}

/* Some sectors of it. */
static void tear(struct image *image, const struct change *c, unsigned percent)
{
	size_t at = 0;

	if (c->truncation) {
		if (chance(100) < percent)
			truncate_image(image, c->offset);
		return;
	}
	while (at < c->size) {
		size_t n = SECTOR - (size_t)(c->offset + (sqlite3_int64)at) % SECTOR;

		if (n > c->size - at)
			n = c->size - at;
		if (chance(100) < percent)
			write_image(image, c->offset + (sqlite3_int64)at, c->data + at, n);
		at += n;
	}
}

/* What became of what was written and not synced: nothing, anything, everything, or all up to some point. */
static void lose(struct image *image)
{
	static const unsigned percents[] = {0, 10, 50, 90, 100, 100};
	unsigned kind = (unsigned)chance(ARRAY_SIZE(percents)), percent = percents[kind];
	bool cut = kind == ARRAY_SIZE(percents) - 1;

	if (image->unlinked && chance(2) == 0) {
		unlink_image(image);
		return;
	}
	for (const struct change *c = image->changes; c; c = c->next) {
		if (cut && chance(4) == 0)
			percent = 0;
		tear(image, c, percent);
	}
	if (!image->there)
		image->there = image->changes && chance(2) == 0;
	drop_changes(image);
}

static void load(struct image *image)
{
	int fd = open(image->path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) < 0)
		abort();
	image->there = true;
	image->size = (size_t)st.st_size;
	image->data = must(malloc(image->size + 1));
	if (read(fd, image->data, image->size) != st.st_size)
		abort();
	close(fd);
}

static struct image *find_image(const char *path)
{
	struct image *image;

	for (unsigned i = 0; i < disk.n_images; i++)
		if (strcmp(disk.images[i].path, path) == 0)
			return &disk.images[i];
	if (disk.n_images == FILES)
		abort();
	image = &disk.images[disk.n_images++];
	*image = (struct image){0};
	image->changes_end = &image->changes;
	snprintf(image->path, sizeof(image->path), "%s", path);
	load(image);
	return image;
}

/* ---- power ---- */

static void lose_power(void)
{
	if (disk.lost)
		return;
	disk.lost = true;
	for (unsigned i = 0; i < disk.n_images; i++)
		lose(&disk.images[i]);
	if (disk.fn)
		disk.fn();
}

/* Before each operation. */
static void count(void)
{
	disk.operations++;
	if (disk.left > 0 && --disk.left == 0)
		lose_power();
}

void powerloss_after(unsigned operations, void (*fn)(void))
{
	pthread_mutex_lock(&disk.mutex);
	disk.left = operations;
	disk.fn = fn;
	pthread_mutex_unlock(&disk.mutex);
}

void powerloss_now(void)
{
	pthread_mutex_lock(&disk.mutex);
	lose_power();
	pthread_mutex_unlock(&disk.mutex);
}

bool powerloss_is_lost(void)
{
	bool lost;

	pthread_mutex_lock(&disk.mutex);
	lost = disk.lost;
	pthread_mutex_unlock(&disk.mutex);
	return lost;
}

unsigned powerloss_operations(void)
{
	return disk.operations;
}

void powerloss_lie(bool lie)
{
	disk.lie = lie;
}

static void write_file(const struct image *image)
{
	int fd = open(image->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, image->data ? image->data : (const void *)"", image->size) != (ssize_t)image->size)
		abort();
	close(fd);
}

/* The others that SQLite made: its shared memory. */
static void remove_shared(const char *directory)
{
	struct dirent *entry;
	char path[512];
	DIR *dir = must(opendir(directory));

	while ((entry = readdir(dir))) {
		size_t n = strlen(entry->d_name);

		if (n < 4 || strcmp(entry->d_name + n - 4, "-shm") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		unlink(path);
	}
	closedir(dir);
}

void powerloss_restore(const char *directory)
{
	for (unsigned i = 0; i < disk.n_images; i++) {
		struct image *image = &disk.images[i];

		if (image->there)
			write_file(image);
		else
			unlink(image->path);
		free(image->data);
		drop_changes(image);
	}
	remove_shared(directory);
	disk.n_images = 0;
	disk.lost = false;
	disk.left = 0;
}

/* ---- files ---- */

static struct file *file_of(sqlite3_file *f)
{
	return (struct file *)(void *)f;
}

static int do_close(sqlite3_file *f)
{
	return file_of(f)->real->pMethods->xClose(file_of(f)->real);
}

static int do_read(sqlite3_file *f, void *data, int size, sqlite3_int64 offset)
{
	return file_of(f)->real->pMethods->xRead(file_of(f)->real, data, size, offset);
}

static void note(struct image *image, bool truncation, sqlite3_int64 offset, const void *data, size_t size)
{
	struct change *c;

	pthread_mutex_lock(&disk.mutex);
	count();
	if (!disk.lost) {
		c = must(malloc(sizeof(*c) + size));
		*c = (struct change){.truncation = truncation, .offset = offset, .size = size};
		if (size > 0)
			memcpy(c->data, data, size);
		*image->changes_end = c;
		image->changes_end = &c->next;
	}
	pthread_mutex_unlock(&disk.mutex);
}

static int do_write(sqlite3_file *f, const void *data, int size, sqlite3_int64 offset)
{
	if (file_of(f)->image)
		note(file_of(f)->image, false, offset, data, (size_t)size);
	return file_of(f)->real->pMethods->xWrite(file_of(f)->real, data, size, offset);
}

static int do_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	if (file_of(f)->image)
		note(file_of(f)->image, true, size, NULL, 0);
	return file_of(f)->real->pMethods->xTruncate(file_of(f)->real, size);
}

static int do_sync(sqlite3_file *f, int flags)
{
	if (!file_of(f)->image)
		return SQLITE_OK;
	pthread_mutex_lock(&disk.mutex);
	count();
	if (!disk.lost && !disk.lie)
		sync_image(file_of(f)->image);
	pthread_mutex_unlock(&disk.mutex);
	return SQLITE_OK;
}

static int do_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	return file_of(f)->real->pMethods->xFileSize(file_of(f)->real, ret);
}

static int do_lock(sqlite3_file *f, int level)
{
	return file_of(f)->real->pMethods->xLock(file_of(f)->real, level);
}

static int do_unlock(sqlite3_file *f, int level)
{
	return file_of(f)->real->pMethods->xUnlock(file_of(f)->real, level);
}

static int do_check_lock(sqlite3_file *f, int *ret)
{
	return file_of(f)->real->pMethods->xCheckReservedLock(file_of(f)->real, ret);
}

static int do_control(sqlite3_file *f, int op, void *arg)
{
	return file_of(f)->real->pMethods->xFileControl(file_of(f)->real, op, arg);
}

static int do_sector_size(sqlite3_file *f)
{
	return SECTOR;
}

static int do_characteristics(sqlite3_file *f)
{
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int do_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret)
{
	return file_of(f)->real->pMethods->xShmMap(file_of(f)->real, page, size, extend, ret);
}

static int do_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
	return file_of(f)->real->pMethods->xShmLock(file_of(f)->real, offset, n, flags);
}

static void do_shm_barrier(sqlite3_file *f)
{
	file_of(f)->real->pMethods->xShmBarrier(file_of(f)->real);
}

static int do_shm_unmap(sqlite3_file *f, int delete)
{
	return file_of(f)->real->pMethods->xShmUnmap(file_of(f)->real, delete);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = do_close,
	.xRead = do_read,
	.xWrite = do_write,
	.xTruncate = do_truncate,
	.xSync = do_sync,
	.xFileSize = do_size,
	.xLock = do_lock,
	.xUnlock = do_unlock,
	.xCheckReservedLock = do_check_lock,
	.xFileControl = do_control,
	.xSectorSize = do_sector_size,
	.xDeviceCharacteristics = do_characteristics,
	.xShmMap = do_shm_map,
	.xShmLock = do_shm_lock,
	.xShmBarrier = do_shm_barrier,
	.xShmUnmap = do_shm_unmap,
};

static int do_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *ret_flags)
{
	const int watched = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL;
	struct file *file = file_of(f);
	struct image *image = NULL;
	int rc;

	pthread_mutex_lock(&disk.mutex);
	if (path && (flags & watched) && !(flags & SQLITE_OPEN_DELETEONCLOSE))
		image = find_image(path);
	if (image && image->unlinked && !disk.lost)
		unlink_image(image); /* another one takes its name */
	pthread_mutex_unlock(&disk.mutex);
	file->base.pMethods = NULL;
	file->real = (sqlite3_file *)(void *)(file + 1);
	rc = disk.real->xOpen(disk.real, path, file->real, flags, ret_flags);
	if (rc != SQLITE_OK)
		return rc;
	file->image = image;
	file->base.pMethods = &methods;
	return SQLITE_OK;
}

static int do_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
	struct image *image;

	pthread_mutex_lock(&disk.mutex);
	count();
	image = find_image(path);
	if (!disk.lost) {
		image->unlinked = true;
		if (sync)
			sync_directory();
	}
	pthread_mutex_unlock(&disk.mutex);
	return disk.real->xDelete(disk.real, path, 0);
}

void powerloss_install(uint64_t seed)
{
	disk.random = seed | 1;
	if (disk.real)
		return;
	disk.real = must(sqlite3_vfs_find(NULL));
	disk.vfs = *disk.real;
	disk.vfs.pNext = NULL;
	disk.vfs.zName = "powerloss";
	disk.vfs.szOsFile = (int)sizeof(struct file) + disk.real->szOsFile;
	disk.vfs.xOpen = do_open;
	disk.vfs.xDelete = do_delete;
	if (sqlite3_vfs_register(&disk.vfs, 1) != SQLITE_OK)
		abort();
}
