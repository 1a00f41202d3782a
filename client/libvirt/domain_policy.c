/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/domain_policy.h"

#include <stdio.h>
#include <string.h>

#include "client/libvirt/xml.h"
#include "proto/cpupolicy-proto.h"

#define NAME_BYTES 63

void domain_policy_clear(struct domain_policy *p)
{
	free(p->class);
	free(p->tenant);
	*p = (struct domain_policy){0};
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool domain_policy_equal(const struct domain_policy *a, const struct domain_policy *b)
{
	return same(a->class, b->class) && same(a->tenant, b->tenant) && a->desired == b->desired;
}

bool domain_policy_is_name(const char *text)
{
	size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return length > 0 && length <= NAME_BYTES && !text[length];
}

static int fail(char **ret_error, const char *what, const char *value, const char *expected)
{
	if (asprintf(ret_error, "its metadata (%s) has %s%s%.100s%s: expected %s", DOMAIN_POLICY_URI, what,
		     value ? "=\"" : "", value ? value : "", value ? "\"" : "", expected) < 0)
		return -ENOMEM;
	return -EINVAL;
}

static int take_name(char **to, const char *what, const char *value, char **ret_error)
{
	if (!domain_policy_is_name(value))
		return fail(ret_error, what, value, "a name of up to 63 letters, digits, '.', '_' and '-'");
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

static int take_attribute(struct domain_policy *p, const xmlAttr *attribute, const char *value, char **ret_error)
{
	const char *name = (const char *)attribute->name;

	if (!attribute->ns && strcmp(name, "class") == 0)
		return take_name(&p->class, name, value, ret_error);
	if (!attribute->ns && strcmp(name, "tenant") == 0)
		return take_name(&p->tenant, name, value, ret_error);
	if (attribute->ns || strcmp(name, "desired") != 0)
		return fail(ret_error, name, value, "the attributes class, tenant and desired alone");
	if (xml_number(value, 1, CPUPOLICY_MAX_VCPUS, &p->desired) < 0)
		return fail(ret_error, name, value, "a number of vCPUs, 1 to 512");
	return 0;
}

static int take_element(struct domain_policy *p, xmlNodePtr node, char **ret_error)
{
	int r = 0;

	for (xmlAttrPtr a = node->properties; a && r >= 0; a = a->next) {
		_cleanup_xml_ xmlChar *value = xmlNodeListGetString(node->doc, a->children, 1);

		r = take_attribute(p, a, value ? (const char *)value : "", ret_error);
	}
	for (xmlNodePtr child = node->children; child && r >= 0; child = child->next)
		if (child->type == XML_ELEMENT_NODE || (child->type == XML_TEXT_NODE && !xmlIsBlankNode(child)))
			r = fail(ret_error, "something within the element", NULL, "an empty element");
	return r;
}

static int take(struct domain_policy *ret, xmlNodePtr node, char **ret_error)
{
	struct domain_policy p = {0};
	int r;

	/* virDomainGetMetadata() takes the namespace away: it was asked for by it */
	if (!xml_is(node, DOMAIN_POLICY_URI, DOMAIN_POLICY_ROOT) && !xml_is(node, NULL, DOMAIN_POLICY_ROOT))
		return fail(ret_error, (const char *)node->name, NULL, "the element policy");
	r = take_element(&p, node, ret_error);
	if (r < 0) {
		domain_policy_clear(&p);
		return r;
	}
	*ret = p;
	return 0;
}

int domain_policy_read(struct domain_policy *ret, xmlNodePtr metadata, char **ret_error)
{
	for (xmlNodePtr node = metadata ? metadata->children : NULL; node; node = node->next)
		if (node->type == XML_ELEMENT_NODE && node->ns &&
		    xmlStrEqual(node->ns->href, BAD_CAST DOMAIN_POLICY_URI))
			return take(ret, node, ret_error);
	*ret = (struct domain_policy){0};
	return 0;
}

int domain_policy_parse(struct domain_policy *ret, const char *xml, char **ret_error)
{
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml_parse(xml);

	if (!doc)
		return fail(ret_error, "something", NULL, "XML");
	return take(ret, xmlDocGetRootElement(doc), ret_error);
}

char *domain_policy_format(const struct domain_policy *p)
{
	char desired[32] = "", *text;

	if (p->desired)
		snprintf(desired, sizeof(desired), " desired='%u'", p->desired);
	if (asprintf(&text, "<policy%s%s%s%s%s%s%s/>", p->class ? " class='" : "", p->class ? p->class : "",
		     p->class ? "'" : "", p->tenant ? " tenant='" : "", p->tenant ? p->tenant : "",
		     p->tenant ? "'" : "", desired) < 0)
		return NULL;
	return text;
}
