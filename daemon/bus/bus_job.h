/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_JOB_H
#define CPUPOLICYD_BUS_JOB_H

/* Jobs as objects: /org/cpupolicy1/job/ID. They exist in the host only; nothing is kept for them here. */

#include <stdint.h>
#include <systemd/sd-bus.h>

#include "daemon/host/host.h"

#define BUS_JOB_ROOT      "/org/cpupolicy1/job"
#define BUS_JOB_INTERFACE "org.cpupolicy1.Job"
#define BUS_JOB_PATH_SIZE (sizeof(BUS_JOB_ROOT) + 21)

/* Returns `path`. */
const char *bus_job_path(uint64_t id, char path[static BUS_JOB_PATH_SIZE]);
int bus_job_add(sd_bus *sd, struct host *host);

#endif
