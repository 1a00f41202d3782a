/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_BACKUP_H
#define CPUPOLICYD_STORE_BACKUP_H

#include "daemon/store/store.h"
#include "daemon/store/store_reader.h"

/* store_backup(), as a task of the reader. */
int store_backup_start(struct store_reader *reader, const char *path, store_done_fn fn, void *userdata);

#endif
