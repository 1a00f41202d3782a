/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_XML_H
#define CPUPOLICY_LIBVIRT_XML_H

/* What the readers and the writer of domain XML need of libxml2. */

#include <libxml/tree.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/util.h"

DEFINE_CLEANUP(xmlDocPtr, xmlFreeDoc)
static inline void xml_freep(xmlChar **p)
{
	xmlFree(*p);
}
#define _cleanup_xml_ _cleanup_(xml_freep)

/* NULL: it is not XML. Never reads anything but `text`. */
xmlDocPtr xml_parse(const char *text);

/* The element of that name among `node`'s children (NULL is accepted), or after `before`; `ns` NULL: of no namespace. */
xmlNodePtr xml_child(xmlNodePtr node, const char *ns, const char *name);
xmlNodePtr xml_next(xmlNodePtr before, const char *ns, const char *name);
bool xml_is(const xmlNode *node, const char *ns, const char *name);

/* NULL: there is none. To free with xmlFree(). */
xmlChar *xml_attribute(xmlNodePtr node, const char *name);
bool xml_attribute_is(xmlNodePtr node, const char *name, const char *value);
/* The text within; to free with xmlFree(). */
xmlChar *xml_text(xmlNodePtr node);

/* Digits alone. -EINVAL, -ERANGE. */
int xml_number(const char *text, uint32_t min, uint32_t max, uint32_t *ret);

#endif
