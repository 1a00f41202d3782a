/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_NOTIFY_H
#define CPUPOLICYD_BUS_NOTIFY_H

/*
 * What clients are told without asking: the host's notices as signals. Property changes are gathered, so that a guest
 * that plugs as fast as it can costs a bounded number of signals: the first change is told at once, further ones of
 * any VM every BUS_NOTIFY_INTERVAL. A signal about an event comes after the properties that it changed.
 */

#include "daemon/bus/bus_link.h"
#include "daemon/host/host.h"
#include "daemon/base/loop.h"

#define BUS_NOTIFY_INTERVAL (20 * UINT64_C(1000000))
/* Denied signals per VM and second; the property counts every call. */
#define BUS_NOTIFY_DENIED_MAX 32u

struct bus_notify;

int bus_notify_new(struct bus_notify **ret, struct loop *loop, struct host *host);
struct bus_notify *bus_notify_free(struct bus_notify *notify);
void bus_notify_set_link(struct bus_notify *notify, struct bus_link *link);
/* A new connection: its clients know nothing yet, and read all. */
void bus_notify_reset(struct bus_notify *notify);

#endif
