/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_MEMORY_STORE_H
#define TESTS_MEMORY_STORE_H

/* daemon/store/store.h without disk and thread: writes are done when the loop comes round, or later, or fail, as the fuzzer
 * says. */

#include "daemon/store/store.h"

/* Requests that come from now on, and those that wait, wait. */
void memory_store_hold(struct store *store, bool hold);
/* Those that are done from now on fail. */
void memory_store_fail(struct store *store, bool fail);
/* Whether the record of the VM, as it is durable now, has this vCPU enabled. */
bool memory_store_enabled(const struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE], uint32_t vcpu);
/* The epoch in that record; 0: there is none. */
uint32_t memory_store_epoch(const struct store *store, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);

#endif
