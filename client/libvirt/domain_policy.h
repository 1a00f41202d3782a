/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_DOMAIN_POLICY_H
#define CPUPOLICY_LIBVIRT_DOMAIN_POLICY_H

/*
 * The service level that a domain's metadata asks for:
 *
 *	<cpupolicy:policy xmlns:cpupolicy="https://cpupolicy.org/xmlns/domain/1" class="gold" tenant="acme" desired="6"/>
 *
 * Each attribute may be missing; anything else is an error (docs/libvirt.md).
 */

#include <libxml/tree.h>
#include <stdbool.h>
#include <stdint.h>

#define DOMAIN_POLICY_URI    "https://cpupolicy.org/xmlns/domain/1"
#define DOMAIN_POLICY_PREFIX "cpupolicy"
#define DOMAIN_POLICY_ROOT   "policy"

struct domain_policy {
	char *class, *tenant; /* NULL: not said */
	uint32_t desired;     /* 0: not said */
};

void domain_policy_clear(struct domain_policy *p);
bool domain_policy_equal(const struct domain_policy *a, const struct domain_policy *b);

/* Letters, digits, '.', '_' and '-', up to 63, as in the daemon's policy. */
bool domain_policy_is_name(const char *text);

/* Of the element of our namespace below `metadata` (NULL, or without one: nothing is said). -EINVAL: *ret_error is a
 * sentence to print and free, and *ret is untouched. -ENOMEM. */
int domain_policy_read(struct domain_policy *ret, xmlNodePtr metadata, char **ret_error);
/* Of a text as virDomainGetMetadata() has it. */
int domain_policy_parse(struct domain_policy *ret, const char *xml, char **ret_error);

/* For virDomainSetMetadata(); NULL: out of memory. */
char *domain_policy_format(const struct domain_policy *p);

#endif
