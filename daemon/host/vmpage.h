/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_VMPAGE_H
#define CPUPOLICYD_VMPAGE_H

/*
 * The push direction to one VMM: the policy page (a sealed memfd that the daemon maps writable and the VMM gets a
 * read-only descriptor of) and the doorbell (a socketpair; ringing never blocks and a full one is already ringing).
 */

#include <stdbool.h>
#include <stdint.h>

struct vmpage;

int vmpage_new(struct vmpage **ret, uint32_t vcpus, uint32_t ask_timeout_ms);
/* One that a predecessor of this process made, with its own ends of it: taken over on success. -EPROTO: it is not a page
 * of so many vCPUs, as this version lays them out. */
int vmpage_adopt(struct vmpage **ret, uint32_t vcpus, int memfd, int bell_fd);
struct vmpage *vmpage_free(struct vmpage *page);

/* Descriptors for the VMM, to be sent once and closed: ownership passes. */
int vmpage_take_descriptors(struct vmpage *page, int *ret_page_fd, int *ret_doorbell_fd);
/* The writable file, to be kept for a successor: ownership passes. -1: taken before. */
int vmpage_take_memfd(struct vmpage *page);
/* Our end of the doorbell: borrowed. */
int vmpage_bell(const struct vmpage *page);
uint32_t vmpage_size(const struct vmpage *page);

/* Words first, then the head: see struct cpupolicy_page. */
void vmpage_set_word(struct vmpage *page, uint32_t vcpu, uint64_t word);
void vmpage_publish(struct vmpage *page, uint32_t epoch, uint32_t generation);
/* Whether it says just that already. */
bool vmpage_says(const struct vmpage *page, uint32_t vcpu, uint64_t word);
void vmpage_ring(struct vmpage *page);

#endif
