/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_DOMAIN_FACTS_H
#define CPUPOLICY_LIBVIRT_DOMAIN_FACTS_H

/* What the bridge wants to know of a domain, out of its XML. Pure: it talks to nobody. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/libvirt/domain_policy.h"
#include "daemon/core/uuid.h"

/* Of a vCPU. */
enum {
	DOMAIN_VCPU_PRESENT = 1 << 0, /* the domain has it now */
	DOMAIN_VCPU_FIXED = 1 << 1,   /* it cannot be unplugged */
};

struct domain_facts {
	char uuid[UUID_TEXT_SIZE];
	char *name;
	/* live */
	bool running;
	bool paused;
	bool can_hold; /* its CPU time can be held to a quota */
	/* out of the XML: the live one, where it runs */
	bool glue;    /* its QEMU registers with the daemon itself */
	bool hotplug; /* libvirt can plug vCPUs into it */
	bool has_uid;
	uint32_t uid; /* of its QEMU */
	char *label;  /* of its QEMU, by the security module; NULL: not known */
	uint32_t possible;
	uint8_t *vcpus; /* of them, DOMAIN_VCPU_* */
	struct domain_policy policy;
	char *policy_error; /* NULL: `policy` is right; else a sentence, and `policy` says nothing */
};

void domain_facts_clear(struct domain_facts *f);
void domain_facts_free(struct domain_facts *f, size_t n);
uint32_t domain_facts_count(const struct domain_facts *f, uint8_t flags);

/* The user that QEMU runs as where a domain does not say, by the type of domain. */
struct domain_defaults {
	bool has_uid_kvm, has_uid_qemu;
	uint32_t uid_kvm, uid_qemu;
};
/* Out of virConnectGetCapabilities(). What is not there is not known. */
void domain_defaults_read(struct domain_defaults *ret, const char *capabilities);

/* Out of virDomainGetXMLDesc(). -EINVAL: it is not the XML of a domain with 1 to 512 vCPUs; -ENOMEM. */
int domain_facts_read(struct domain_facts *ret, const char *xml, const struct domain_defaults *defaults);

/* "+64055:+64055", "64055:64055" or "user:group": the user. -EINVAL; -ENOENT: there is none of that name. */
int domain_facts_parse_owner(const char *label, uint32_t *ret_uid);

#endif
