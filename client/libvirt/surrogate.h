/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_SURROGATE_H
#define CPUPOLICY_LIBVIRT_SURROGATE_H

/*
 * A VMM to the daemon, on behalf of a running domain whose QEMU has no glue: registers it by libcpupolicy, and has
 * libvirt plug and unplug vCPUs until the domain has those that the policy page wants. It goes by levels: whatever
 * happened meanwhile, what is there is compared with what is wanted. docs/libvirt.md says what that can and cannot do.
 */

#include "client/libvirt/domain_facts.h"
#include "client/libvirt/plug.h"
#include "daemon/base/loop.h"
#include "proto/libcpupolicy.h"

struct surrogate;

struct surrogate_setup {
	struct loop *loop;
	const char *socket; /* the daemon's */
	/* Plugs or unplugs; ends in surrogate_plugged(). */
	void (*plug)(const char *uuid, uint32_t vcpu, bool on, void *userdata);
	void *userdata;
};

/* `setup` is copied, its strings stay the caller's. */
int surrogate_new(struct surrogate **ret, const struct surrogate_setup *setup, const struct domain_facts *facts);
/* The domain lives on (the bridge ends), or has ended: see surrogate_ended(). NULL is accepted. */
struct surrogate *surrogate_free(struct surrogate *s);
/* Before surrogate_free(): the daemon is told that the VM has ended, or goes on elsewhere. */
void surrogate_ended(struct surrogate *s, enum cpupolicy_unregister_cause cause);

/* What libvirt says now. False: it is another machine (the number of vCPUs, the name): make a new one. */
bool surrogate_update(struct surrogate *s, const struct domain_facts *facts);
void surrogate_plugged(struct surrogate *s, const struct plug *plug);
/* The guest's answer to a notification. */
void surrogate_ost(struct surrogate *s, uint32_t vcpu, uint32_t source, uint32_t status);

#endif
