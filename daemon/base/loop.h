/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_LOOP_H
#define CPUPOLICYD_LOOP_H

/*
 * The event loop: the only file pair that knows libevent, beside metrics.c, which has its HTTP server run on it.
 * Single-threaded; callbacks may free their own source.
 */

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_io;
struct loop_timer;
struct loop_deferred;

enum { LOOP_READ = 1 << 0, LOOP_WRITE = 1 << 1 };

typedef void (*loop_io_fn)(int fd, unsigned events, void *userdata);
typedef void (*loop_fn)(void *userdata);

int loop_new(struct loop **ret);
struct loop *loop_free(struct loop *loop);
/* Runs until loop_quit(). */
int loop_run(struct loop *loop);
void loop_quit(struct loop *loop);

/* CLOCK_BOOTTIME in nanoseconds: counts suspend, does not step. Read once per turn and cached; outside of loop_run()
 * read afresh. */
uint64_t loop_now(const struct loop *loop);

/* Level-triggered; one call for each of `events`. 0: nothing is watched until loop_io_set(). The descriptor stays the
 * caller's. */
int loop_io_new(struct loop_io **ret, struct loop *loop, int fd, unsigned events, loop_io_fn fn, void *userdata);
int loop_io_set(struct loop_io *io, unsigned events);
struct loop_io *loop_io_free(struct loop_io *io);

/* One shot, absolute in loop_now() time; UINT64_MAX disarms. New ones are disarmed. An idle loop has no wake-ups.
 * Setting one does not fail: the result is 0, for the caller's convenience. */
int loop_timer_new(struct loop_timer **ret, struct loop *loop, loop_fn fn, void *userdata);
int loop_timer_set(struct loop_timer *timer, uint64_t when);
struct loop_timer *loop_timer_free(struct loop_timer *timer);

/* Runs once at the end of the present turn, however often it is scheduled. One that is scheduled by another one, or
 * before loop_run(), runs at the end of the next turn, which does not wait. */
int loop_deferred_new(struct loop_deferred **ret, struct loop *loop, loop_fn fn, void *userdata);
void loop_deferred_schedule(struct loop_deferred *d);
struct loop_deferred *loop_deferred_free(struct loop_deferred *d);

/* SIGTERM and SIGINT quit the loop. */
int loop_quit_on_signals(struct loop *loop);
/* SIGHUP runs `fn`. */
int loop_on_hangup(struct loop *loop, loop_fn fn, void *userdata);

/* What runs underneath, for parts of libevent that bring their own events; no thread but this one. */
struct event_base;
struct event_base *loop_event_base(struct loop *loop);

#endif
