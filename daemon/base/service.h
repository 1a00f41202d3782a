/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_SERVICE_H
#define CPUPOLICYD_SERVICE_H

/*
 * The service manager: what it is told (ready, reloading, stopping, alive, a line of status), what it passed, and what
 * it keeps for the next process. Nothing here waits for it but service_finish(): what it does not take now is queued,
 * in order.
 *
 * Descriptors that are kept have a name each, which all of one thing share: a number, or SERVICE_HANDOVER. Without a
 * service manager all of this does nothing, and nothing was passed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/loop.h"

#define SERVICE_HANDOVER "handover"
#define SERVICE_FDS_MAX  3u /* of one thing */
/* Things that are kept: all their names have to fit into one string of the next process's environment, of 128 KiB. */
#define SERVICE_SLOTS_MAX 8000u

struct service;

/* Takes what was passed to this process out of its environment. */
int service_new(struct service **ret, struct loop *loop);
struct service *service_free(struct service *service); /* closes what was passed and not taken */

/* ---- telling ---- */

void service_ready(struct service *service);
void service_reloading(struct service *service);
void service_stopping(struct service *service);

/* A line of status, at most `size` bytes with its NUL. */
typedef void (*service_status_fn)(char *text, size_t size, void *userdata);
/* Who writes it: asked when it is to be sent. */
void service_set_status(struct service *service, service_status_fn fn, void *userdata);
/* It may be another one: sent within a second, if it is. */
void service_status_changed(struct service *service);

/* ---- keeping ---- */

/* There is somebody who would keep descriptors. */
bool service_keeps(const struct service *service);
/* How many it keeps, if it says so (systemd 254); 0: not known. */
unsigned service_keeps_at_most(const struct service *service);
/* Borrowed. What cannot be kept is not: the successor sees what it gets. */
void service_keep(struct service *service, const char *name, const int *fds, size_t n);
void service_keep_slot(struct service *service, uint32_t slot, const int *fds, size_t n);
void service_forget(struct service *service, const char *name);
void service_forget_slot(struct service *service, uint32_t slot);
/* Waits, not for long, until all that was said has been taken in. Returns -ETIMEDOUT if it was not. */
int service_finish(struct service *service);

/* ---- what was passed ---- */

/* Takes one of this name: -ENOENT, no more. */
int service_take(struct service *service, const char *name);
int service_take_slot(struct service *service, uint32_t slot);
/* Takes what is not of those that are kept: a socket to listen at. -ENOENT: there is none; -E2BIG: more than one. */
int service_take_socket(struct service *service);
/* Whatever was kept and is left is closed and not kept any more. Returns how many names that were. */
size_t service_drop_kept(struct service *service);

#endif
