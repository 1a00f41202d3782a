/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/xml.h"

#include <libxml/parser.h>
#include <limits.h>
#include <string.h>

xmlDocPtr xml_parse(const char *text)
{
	size_t length = strlen(text);

	if (length > INT_MAX)
		return NULL;
	/* no network, no entities of files, and what is wrong with it is said by the caller */
	return xmlReadMemory(text, (int)length, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
}

bool xml_is(const xmlNode *node, const char *ns, const char *name)
{
	if (node->type != XML_ELEMENT_NODE || !xmlStrEqual(node->name, BAD_CAST name))
		return false;
	return ns ? node->ns && xmlStrEqual(node->ns->href, BAD_CAST ns) : !node->ns;
}

static xmlNodePtr from(xmlNodePtr node, const char *ns, const char *name)
{
	while (node && !xml_is(node, ns, name))
		node = node->next;
	return node;
}

xmlNodePtr xml_child(xmlNodePtr node, const char *ns, const char *name)
{
	return node ? from(node->children, ns, name) : NULL;
}

xmlNodePtr xml_next(xmlNodePtr before, const char *ns, const char *name)
{
	return from(before->next, ns, name);
}

xmlChar *xml_attribute(xmlNodePtr node, const char *name)
{
	return node ? xmlGetNoNsProp(node, BAD_CAST name) : NULL;
}

bool xml_attribute_is(xmlNodePtr node, const char *name, const char *value)
{
	_cleanup_xml_ xmlChar *has = xml_attribute(node, name);

	return has && xmlStrEqual(has, BAD_CAST value);
}

xmlChar *xml_text(xmlNodePtr node)
{
	return node ? xmlNodeGetContent(node) : NULL;
}

int xml_number(const char *text, uint32_t min, uint32_t max, uint32_t *ret)
{
	uint64_t n = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		n = n * 10 + (uint64_t)(*text - '0');
		if (n > UINT32_MAX)
			return -ERANGE;
	}
	if (n < min || n > max)
		return -ERANGE;
	*ret = (uint32_t)n;
	return 0;
}
