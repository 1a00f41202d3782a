/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_H
#define BENCH_H

/*
 * What the programs of `make bench` share: time, quantiles, sockets, and results as one JSON object per line of standard
 * output. They measure and print; tests/bench/bench.py starts what they measure and makes the table. A program that
 * cannot measure says why and ends: a figure is either right or missing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* An unsigned number from the command line, at least `min`. */
uint32_t bench_number(const char *text, uint32_t min);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t bench_now(void);
/* Lets what the last measurement set off come to rest before the next one. */
void bench_pause(uint64_t ns);

/* ---- samples ---- */

struct bench_samples {
	uint64_t *values; /* nanoseconds */
	size_t n;
	size_t size;
};

void bench_samples_init(struct bench_samples *s, size_t size);
void bench_samples_add(struct bench_samples *s, uint64_t value);
void bench_samples_clear(struct bench_samples *s);
/* Sorts; `of_1000`: 500 is the median. */
uint64_t bench_samples_quantile(struct bench_samples *s, unsigned of_1000);
/* {"name": ..., "n": ..., "p50": ..., "p99": ..., "p999": ...}, in nanoseconds */
void bench_samples_print(const char *name, struct bench_samples *s);

/* ---- sockets ---- */

/* Both kinds of server are reached by the same kind of socket. */
int bench_connect(const char *path);
int bench_listen(const char *path);
void bench_write_all(int fd, const void *data, size_t size);
void bench_read_all(int fd, void *data, size_t size);
void bench_nonblock(int fd);

/* ---- processes ---- */

/* Who listens at the other end. */
pid_t bench_peer_pid(int fd);
/* Nanoseconds that all threads of the process have spent on a CPU. */
uint64_t bench_cpu_time(pid_t pid);
/* All threads of the process (0: this one) on the n-th CPU that this process may use, if there are that many. */
void bench_pin(pid_t pid, unsigned n);

#endif
