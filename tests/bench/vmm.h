/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_VMM_H
#define BENCH_VMM_H

/* A VMM as the benchmarks need it: registered by the wire format itself, so that what is measured is the daemon and not
 * a client. */

#include <stddef.h>
#include <stdint.h>

#include "proto/cpupolicy-proto.h"
#include "proto/message.h"

#define VMM_ASK_SIZE   (sizeof(struct cpupolicy_header) + sizeof(struct cpupolicy_ask))
#define VMM_REPLY_SIZE (sizeof(struct cpupolicy_header) + sizeof(struct cpupolicy_verdict))
/* Enabled at boot and off: it may be asked for again and again. */
#define VMM_ASKED_VCPU 1u

struct vmm {
	int fd;
	int doorbell;
	const struct cpupolicy_page *page;
	uint32_t possible;
	char name[48];
};

/* Registers `n` VMs, many at a time so that the daemon makes them durable together. */
void vmm_start(struct vmm *vmms, size_t n, const char *path, const char *prefix, uint32_t possible, uint32_t boot);
/* Sends an event and waits for its empty reply. */
void vmm_call(struct vmm *vmm, uint32_t request, const void *payload, uint32_t size);

/* A random one. */
void vmm_uuid(uint8_t ret[CPUPOLICY_UUID_SIZE]);
/* Of the n-th vCPU, in clusters of 16 as on real machines. */
uint64_t vmm_mpidr(uint32_t n);

/* The bytes of an ASK and of the reply that allows it. */
void vmm_encode_ask(uint8_t ask[VMM_ASK_SIZE], uint8_t reply[VMM_REPLY_SIZE]);

#endif
