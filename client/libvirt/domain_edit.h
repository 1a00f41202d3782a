/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_DOMAIN_EDIT_H
#define CPUPOLICY_LIBVIRT_DOMAIN_EDIT_H

/*
 * A domain's XML, so that its QEMU has the glue, and back. What was there before is kept in the domain's metadata:
 *
 *	<cpupolicy-was:was xmlns:cpupolicy-was="https://cpupolicy.org/xmlns/was/1" emulator="..." current="2">
 *	  <vcpus>...</vcpus>
 *	</cpupolicy-was:was>
 *
 * Pure: it talks to nobody. Done twice it changes nothing the second time.
 */

#include <libxml/tree.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/libvirt/domain_policy.h"

#define DOMAIN_EDIT_URI    "https://cpupolicy.org/xmlns/was/1"
#define DOMAIN_EDIT_PREFIX "cpupolicy-was"

struct domain_edit {
	const char *emulator; /* QEMU with the glue */
	const char *socket;   /* the daemon's */
	uint32_t boot;        /* 0: as many as the domain starts with now */
	/* NULL: as it is; "": not any more */
	const char *class, *tenant;
	bool set_desired;
	uint32_t desired; /* 0: not any more */
};

/* Puts what is given over `p`. -EINVAL: *ret_error is a sentence; -ENOMEM. */
int domain_edit_policy(const struct domain_edit *edit, struct domain_policy *p, char **ret_error);

/* -EINVAL: this domain cannot have the glue, and *ret_error says why; -ENOMEM. */
int domain_edit_enable(xmlDocPtr doc, const struct domain_edit *edit, char **ret_error);
/* -ENOENT: it was not enabled by domain_edit_enable(). */
int domain_edit_disable(xmlDocPtr doc);
bool domain_edit_is_enabled(xmlDocPtr doc);

#endif
