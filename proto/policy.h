/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPUPOLICY_POLICY_H
#define CPUPOLICY_POLICY_H

/*
 * The policy of one VM as its VMM holds it: the page (the daemon's, or one of its own in the same layout) and the marks
 * of what the guest gave back. Answers from both; knows no socket and no time.
 *
 * A mark says that the guest ejected the vCPU under the grant whose number it keeps, and holds until the page shows
 * another grant. A new page numbers its grants anew: see cpupolicy_policy_adopt().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpupolicy-proto.h"
#include "libcpupolicy.h"
#include "page.h"

struct cpupolicy_policy_vcpu {
	bool ejected;
	bool own;  /* it was the guest's own idea */
	bool late; /* marked after the registration under way told the daemon which vCPUs are ejected */
	uint32_t grant;
	struct cpupolicy_verdict last;
	uint64_t denied;
};

struct cpupolicy_policy {
	uint32_t vcpus;
	const struct cpupolicy_page *page; /* NULL: no policy, deny */
	size_t mapped;                     /* bytes, if the page is the daemon's */
	struct cpupolicy_page *own;        /* the same as `page`, if it is ours */
	struct cpupolicy_policy_vcpu *vcpu;
};

int cpupolicy_policy_init(struct cpupolicy_policy *p, uint32_t vcpus);
void cpupolicy_policy_done(struct cpupolicy_policy *p);

/* The daemon's page in place of the present one; marks that are not late end, late ones go on under the new page's
 * grants. The descriptor stays the caller's. */
int cpupolicy_policy_adopt(struct cpupolicy_policy *p, int fd, uint32_t size, uint32_t epoch, const char **ret_why);
/* A page of our own with the words of the present one; without one, the first `enabled` vCPUs are enabled. */
int cpupolicy_policy_own(struct cpupolicy_policy *p, uint32_t enabled);
/* On a page of our own. */
void cpupolicy_policy_set(struct cpupolicy_policy *p, uint32_t vcpu, bool wanted);

/* The present word; of vCPU 0 and without a page, what stands in for it. */
struct cpupolicy_page_word cpupolicy_policy_word(const struct cpupolicy_policy *p, uint32_t vcpu);
uint64_t cpupolicy_policy_head(const struct cpupolicy_policy *p);

bool cpupolicy_policy_ejected(const struct cpupolicy_policy *p, uint32_t vcpu);
/* Of vCPU 0 neither. */
void cpupolicy_policy_mark(struct cpupolicy_policy *p, uint32_t vcpu, bool own, bool late);
void cpupolicy_policy_unmark(struct cpupolicy_policy *p, uint32_t vcpu);

/* What the page says to a CPU_ON. `inactive`: another VMM runs the guest (names the reason of a denial). */
enum cpupolicy_answer cpupolicy_policy_decide(const struct cpupolicy_policy *p, uint32_t vcpu, bool inactive,
					      enum cpupolicy_reason *ret_reason);
/* What stands in for the daemon's answer where there is none. */
struct cpupolicy_verdict cpupolicy_policy_timeout(const struct cpupolicy_policy *p, uint32_t vcpu, bool inactive);
/* The last look before power-on: whether the page still permits it. */
bool cpupolicy_policy_holds(const struct cpupolicy_policy *p, uint32_t vcpu);
/* For the VMM's own queries. */
void cpupolicy_policy_record(struct cpupolicy_policy *p, uint32_t vcpu, struct cpupolicy_verdict verdict);

#endif
