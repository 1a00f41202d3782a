/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_USAGE_H
#define CPUPOLICYD_STORE_USAGE_H

#include "daemon/store/store.h"
#include "daemon/store/store_reader.h"

/* store_usage_query(), as a task of the reader. */
int store_usage_start(struct store_reader *reader, const struct store_usage_filter *filter, store_usage_fn fn,
		      void *userdata);

#endif
