/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_VIRT_WATCH_H
#define CPUPOLICY_LIBVIRT_VIRT_WATCH_H

/* The watch: libvirt's connection, its events, and its event loop, in a thread of virt.c's. */

#include "client/libvirt/virt.h"

/* Does not return. `wake` is readable when there is work. */
void virt_watch_run(struct virt *v, const char *uri, int wake);

/* ---- what it has virt.c do, from its thread ---- */

/* The connection stays the watch's; until virt_watch_down() others may take references. */
void virt_watch_up(struct virt *v, virConnectPtr connection);
void virt_watch_down(struct virt *v, const char *why);
void virt_watch_event(struct virt *v, const struct virt_event *event);
/* Runs all tasks of LOOK. */
void virt_watch_work(struct virt *v, virConnectPtr connection);

#endif
