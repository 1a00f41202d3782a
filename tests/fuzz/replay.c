/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Runs a fuzzer over files without libFuzzer: replay [--mutate] FILE|DIRECTORY...
 * With --mutate also over every beginning of each file, and each file with one bit turned over. Without arguments: over
 * the corpus that the build names, FUZZ_CORPUS in the source tree, mutated if FUZZ_MUTATE says so.
 */

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define LARGEST_INPUT 65536

static unsigned long n_files, n_runs;

/* In memory of its own size, so that a sanitizer sees every read beyond it. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	n_runs++;
}

static void run_mutations(uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		run(data, i);
	for (size_t i = 0; i < size * 8; i++) {
		data[i / 8] ^= (uint8_t)(1u << i % 8);
		run(data, size);
		data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

static int replay_file(const char *path, FILE *f, bool mutate)
{
	static uint8_t data[LARGEST_INPUT];
	size_t size = fread(data, 1, sizeof(data), f);

	if (ferror(f) || size == sizeof(data)) {
		fprintf(stderr, "%s: cannot be read whole\n", path);
		return -EIO;
	}
	n_files++;
	run(data, size);
	if (mutate)
		run_mutations(data, size);
	return 0;
}

static int replay(const char *path, bool mutate);

static int replay_directory(const char *path, bool mutate)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort), r = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		char inner[4096];

		snprintf(inner, sizeof(inner), "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.' && r == 0)
			r = replay(inner, mutate);
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int replay(const char *path, bool mutate)
{
	FILE *f;
	int r;

	r = replay_directory(path, mutate);
	if (r != -ENOTDIR)
		return r;
	f = fopen(path, "re");
	if (!f)
		return -errno;
	r = replay_file(path, f, mutate);
	fclose(f);
	return r;
}

static int replay_corpus(void)
{
	const char *srcdir = getenv("srcdir");
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", FUZZ_CORPUS);
	return replay(path, FUZZ_MUTATE);
}

int main(int argc, char **argv)
{
	bool mutate = false;

	if (argc == 1 && replay_corpus() < 0)
		return EXIT_FAILURE;
	for (int i = 1; i < argc; i++) {
		int r;

		if (strcmp(argv[i], "--mutate") == 0) {
			mutate = true;
			continue;
		}
		r = replay(argv[i], mutate);
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
			return EXIT_FAILURE;
		}
	}
	printf("%lu files, %lu runs\n", n_files, n_runs);
	/* A corpus that went missing is not a test that passed. */
	return n_files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
