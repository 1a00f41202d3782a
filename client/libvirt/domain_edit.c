/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/domain_edit.h"

#include <stdio.h>
#include <string.h>

#include "client/libvirt/xml.h"
#include "proto/cpupolicy-proto.h"

#define QEMU_URI "http://libvirt.org/schemas/domain/qemu/1.0"
#define OBJECT   "cpupolicy,id=cpupol0,"
#define MACHINE  "cpu-policy=cpupol0"

/* ---- a tree that stays readable ---- */

static void add_text(xmlNodePtr parent, xmlNodePtr before, unsigned depth)
{
	char text[32];
	xmlNodePtr node;

	snprintf(text, sizeof(text), "\n%*s", 2 * (int)depth, "");
	node = xmlNewDocText(parent->doc, BAD_CAST text);
	if (before)
		xmlAddPrevSibling(before, node);
	else
		xmlAddChild(parent, node);
}

static unsigned depth_of(const xmlNode *node)
{
	unsigned depth = 0;

	while ((node = node->parent) && node->type == XML_ELEMENT_NODE)
		depth++;
	return depth;
}

/* As the last child. */
static void append(xmlNodePtr parent, xmlNodePtr node)
{
	xmlNodePtr end = parent->last;
	unsigned depth = depth_of(parent) + 1;

	if (!end || !xmlIsBlankNode(end)) {
		add_text(parent, NULL, depth - 1);
		end = parent->last;
	}
	/* in this order: texts that meet become one */
	xmlAddPrevSibling(end, node);
	add_text(parent, node, depth);
}

static void remove_node(xmlNodePtr node)
{
	xmlNodePtr before = node->prev;

	if (before && xmlIsBlankNode(before)) {
		xmlUnlinkNode(before);
		xmlFreeNode(before);
	}
	xmlUnlinkNode(node);
	xmlFreeNode(node);
}

static void set_attribute(xmlNodePtr node, const char *name, const char *value)
{
	if (!xml_attribute_is(node, name, value))
		xmlSetProp(node, BAD_CAST name, BAD_CAST value);
}

/* The child of that name; a new one if there is none. */
static xmlNodePtr need(xmlNodePtr parent, const char *name)
{
	xmlNodePtr node = xml_child(parent, NULL, name);

	if (node)
		return node;
	node = xmlNewDocNode(parent->doc, NULL, BAD_CAST name, NULL);
	append(parent, node);
	return node;
}

static xmlNodePtr need_metadata(xmlNodePtr root)
{
	xmlNodePtr metadata = xml_child(root, NULL, "metadata"), uuid = xml_child(root, NULL, "uuid");

	if (metadata || !uuid)
		return metadata ? metadata : need(root, "metadata");
	metadata = xmlNewDocNode(root->doc, NULL, BAD_CAST "metadata", NULL);
	xmlAddNextSibling(uuid, metadata);
	add_text(root, metadata, 1);
	return metadata;
}

static xmlNodePtr new_element(xmlDocPtr doc, const char *uri, const char *prefix, const char *name)
{
	xmlNodePtr node = xmlNewDocNode(doc, NULL, BAD_CAST name, NULL);

	xmlSetNs(node, xmlNewNs(node, BAD_CAST uri, BAD_CAST prefix));
	return node;
}

/* ---- what was there ---- */

static xmlNodePtr find_was(xmlNodePtr root)
{
	return xml_child(xml_child(root, NULL, "metadata"), DOMAIN_EDIT_URI, "was");
}

bool domain_edit_is_enabled(xmlDocPtr doc)
{
	return find_was(xmlDocGetRootElement(doc)) != NULL;
}

static void keep_was(xmlNodePtr root, const char *emulator)
{
	xmlNodePtr vcpus = xml_child(root, NULL, "vcpus"), was;
	_cleanup_xml_ xmlChar *before = xml_text(xml_child(xml_child(root, NULL, "devices"), NULL, "emulator"));
	_cleanup_xml_ xmlChar *current = xml_attribute(xml_child(root, NULL, "vcpu"), "current");

	was = find_was(root);
	if (was) {
		set_attribute(was, "set", emulator);
		return;
	}
	was = new_element(root->doc, DOMAIN_EDIT_URI, DOMAIN_EDIT_PREFIX, "was");
	append(need_metadata(root), was);
	if (before)
		set_attribute(was, "emulator", (const char *)before);
	set_attribute(was, "set", emulator);
	if (current)
		set_attribute(was, "current", (const char *)current);
	if (vcpus)
		append(was, xmlDocCopyNode(vcpus, root->doc, 1));
}

/* ---- QEMU's command line ---- */

static bool starts_with(xmlNodePtr arg, const char *begin)
{
	_cleanup_xml_ xmlChar *value = xml_attribute(arg, "value");

	return value && strncmp((const char *)value, begin, strlen(begin)) == 0;
}

/* The argument of `option` that begins so. */
static xmlNodePtr find_arg(xmlNodePtr line, const char *option, const char *begin)
{
	xmlNodePtr arg = xml_child(line, QEMU_URI, "arg"), value;

	for (; arg; arg = xml_next(arg, QEMU_URI, "arg")) {
		value = xml_next(arg, QEMU_URI, "arg");
		if (xml_attribute_is(arg, "value", option) && value && starts_with(value, begin))
			return value;
	}
	return NULL;
}

static void append_arg(xmlNodePtr line, const char *value)
{
	xmlNodePtr arg = xmlNewDocNode(line->doc, line->ns, BAD_CAST "arg", NULL);

	set_attribute(arg, "value", value);
	append(line, arg);
}

static void set_arg(xmlNodePtr line, const char *option, const char *begin, const char *value)
{
	xmlNodePtr arg = find_arg(line, option, begin);

	if (arg) {
		set_attribute(arg, "value", value);
		return;
	}
	append_arg(line, option);
	append_arg(line, value);
}

static void remove_arg(xmlNodePtr line, const char *option, const char *begin)
{
	xmlNodePtr value = find_arg(line, option, begin), arg = value;

	if (!value)
		return;
	while (!xml_is(arg->prev, QEMU_URI, "arg"))
		arg = arg->prev;
	remove_node(arg->prev);
	remove_node(value);
}

static xmlNodePtr need_line(xmlNodePtr root)
{
	xmlNodePtr line = xml_child(root, QEMU_URI, "commandline");
	xmlNsPtr ns;

	if (line)
		return line;
	ns = xmlSearchNsByHref(root->doc, root, BAD_CAST QEMU_URI);
	if (!ns)
		ns = xmlNewNs(root, BAD_CAST QEMU_URI, BAD_CAST "qemu");
	line = xmlNewDocNode(root->doc, ns, BAD_CAST "commandline", NULL);
	append(root, line);
	return line;
}

/* ---- checks ---- */

static int refuse(char **ret_error, const char *why)
{
	*ret_error = strdup(why);
	return *ret_error ? -EINVAL : -ENOMEM;
}

static int check_machine(xmlNodePtr root, char **ret_error)
{
	xmlNodePtr type = xml_child(xml_child(root, NULL, "os"), NULL, "type");
	_cleanup_xml_ xmlChar *machine = xml_attribute(type, "machine");

	if (!xml_attribute_is(type, "arch", "aarch64") || !machine ||
	    strncmp((const char *)machine, "virt", strlen("virt")) != 0)
		return refuse(ret_error,
			      "the glue is for aarch64 domains of machine virt; others are resized by libvirt's vCPU "
			      "hotplug, and need nothing");
	if (!find_was(root) && find_arg(xml_child(root, QEMU_URI, "commandline"), "-object", "cpupolicy,"))
		return refuse(ret_error,
			      "its qemu:commandline has a cpupolicy object already, which somebody put there by hand");
	return 0;
}

/* A comma is the end of a value to QEMU, unless it is doubled. */
static int check_socket(const char *socket, char **ret_error)
{
	if (*socket == '/' && !strchr(socket, ','))
		return 0;
	return refuse(ret_error, "the daemon's socket is given by an absolute path without commas");
}

static int count_vcpus(xmlNodePtr root, uint32_t *ret_most, uint32_t *ret_now)
{
	xmlNodePtr vcpu = xml_child(root, NULL, "vcpu");
	_cleanup_xml_ xmlChar *most = xml_text(vcpu), *current = xml_attribute(vcpu, "current");

	*ret_most = 1;
	if (most && xml_number((const char *)most, 1, CPUPOLICY_MAX_VCPUS, ret_most) < 0)
		return -EINVAL;
	if (!current || xml_number((const char *)current, 1, *ret_most, ret_now) < 0)
		*ret_now = *ret_most;
	return 0;
}

/* What the object says already, unless something else is asked for. */
static int choose_boot(xmlNodePtr root, const struct domain_edit *edit, uint32_t *ret, char **ret_error)
{
	_cleanup_xml_ xmlChar *object =
		xml_attribute(find_arg(xml_child(root, QEMU_URI, "commandline"), "-object", OBJECT), "value");
	const char *boot = object ? strstr((const char *)object, ",boot=") : NULL;
	uint32_t most, now;

	if (count_vcpus(root, &most, &now) < 0)
		return refuse(ret_error, "it has no number of vCPUs from 1 to 512");
	if (edit->boot > most)
		return refuse(ret_error, "it has fewer vCPUs than --boot says");
	*ret = edit->boot ? edit->boot : now;
	if (!edit->boot && boot && (xml_number(boot + strlen(",boot="), 1, most, ret) < 0))
		*ret = now;
	return 0;
}

/* ---- the edits ---- */

static int set_name(char **to, const char *value, const char *what, char **ret_error)
{
	char *copy = NULL;

	if (!value)
		return 0;
	if (*value && !domain_policy_is_name(value)) {
		if (asprintf(ret_error,
			     "\"%.100s\" is not a %s: a name of up to 63 letters, digits, '.', '_' and '-' is expected",
			     value, what) < 0)
			return -ENOMEM;
		return -EINVAL;
	}
	if (*value && !(copy = strdup(value)))
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

int domain_edit_policy(const struct domain_edit *edit, struct domain_policy *p, char **ret_error)
{
	int r = set_name(&p->class, edit->class, "class", ret_error);

	if (r >= 0)
		r = set_name(&p->tenant, edit->tenant, "tenant", ret_error);
	if (r >= 0 && edit->set_desired)
		p->desired = edit->desired;
	return r;
}

static void put_policy(xmlNodePtr root, const struct domain_policy *p)
{
	xmlNodePtr metadata = xml_child(root, NULL, "metadata");
	xmlNodePtr node = xml_child(metadata, DOMAIN_POLICY_URI, DOMAIN_POLICY_ROOT);
	char desired[16];

	if (node)
		remove_node(node);
	if (!p->class && !p->tenant && !p->desired)
		return;
	node = new_element(root->doc, DOMAIN_POLICY_URI, DOMAIN_POLICY_PREFIX, DOMAIN_POLICY_ROOT);
	if (p->class)
		set_attribute(node, "class", p->class);
	if (p->tenant)
		set_attribute(node, "tenant", p->tenant);
	snprintf(desired, sizeof(desired), "%u", p->desired);
	if (p->desired)
		set_attribute(node, "desired", desired);
	append(need_metadata(root), node);
}

static int edit_policy(xmlNodePtr root, const struct domain_edit *edit, char **ret_error)
{
	struct domain_policy before = {0}, after = {0};
	int r;

	if (!edit->class && !edit->tenant && !edit->set_desired)
		return 0;
	r = domain_policy_read(&before, xml_child(root, NULL, "metadata"), ret_error);
	if (r >= 0)
		r = domain_policy_read(&after, xml_child(root, NULL, "metadata"), ret_error);
	if (r >= 0)
		r = domain_edit_policy(edit, &after, ret_error);
	if (r >= 0 && !domain_policy_equal(&before, &after))
		put_policy(root, &after);
	domain_policy_clear(&before);
	domain_policy_clear(&after);
	return r;
}

static void edit_vcpus(xmlNodePtr root)
{
	xmlNodePtr vcpus = xml_child(root, NULL, "vcpus");

	/* libvirt ends a QEMU that has threads for vCPUs which it holds inactive: to it all are there */
	xmlUnsetProp(need(root, "vcpu"), BAD_CAST "current");
	if (vcpus)
		remove_node(vcpus);
}

static void edit_emulator(xmlNodePtr root, const char *path)
{
	xmlNodePtr emulator = need(need(root, "devices"), "emulator");
	_cleanup_xml_ xmlChar *now = xml_text(emulator);
	_cleanup_xml_ xmlChar *escaped = xmlEncodeSpecialChars(root->doc, BAD_CAST path);

	if (!now || !xmlStrEqual(now, BAD_CAST path))
		xmlNodeSetContent(emulator, escaped);
}

int domain_edit_enable(xmlDocPtr doc, const struct domain_edit *edit, char **ret_error)
{
	xmlNodePtr root = xmlDocGetRootElement(doc), line;
	char object[512];
	uint32_t boot;
	int r = check_machine(root, ret_error);

	if (r >= 0)
		r = check_socket(edit->socket, ret_error);
	if (r >= 0)
		r = choose_boot(root, edit, &boot, ret_error);
	if (r >= 0)
		r = edit_policy(root, edit, ret_error);
	if (r < 0)
		return r;
	if (snprintf(object, sizeof(object), OBJECT "path=%s,boot=%u", edit->socket, boot) >= (int)sizeof(object))
		return refuse(ret_error, "the path of the daemon's socket is too long");
	keep_was(root, edit->emulator);
	edit_vcpus(root);
	edit_emulator(root, edit->emulator);
	line = need_line(root);
	set_arg(line, "-object", OBJECT, object);
	set_arg(line, "-machine", MACHINE, MACHINE);
	return 0;
}

static void restore_vcpus(xmlNodePtr root, xmlNodePtr was)
{
	_cleanup_xml_ xmlChar *current = xml_attribute(was, "current");
	xmlNodePtr vcpu = xml_child(root, NULL, "vcpu"), vcpus = xml_child(was, NULL, "vcpus");
	uint32_t most, now, before;

	if (!vcpu || count_vcpus(root, &most, &now) < 0)
		return;
	/* fewer than before are possible by now: then all of them */
	if (current && xml_number((const char *)current, 1, most, &before) >= 0)
		set_attribute(vcpu, "current", (const char *)current);
	if (vcpus && !xml_child(root, NULL, "vcpus")) {
		xmlAddNextSibling(vcpu, xmlDocCopyNode(vcpus, root->doc, 1));
		add_text(root, xml_child(root, NULL, "vcpus"), 1);
	}
}

static void restore_emulator(xmlNodePtr root, xmlNodePtr was)
{
	xmlNodePtr emulator = xml_child(xml_child(root, NULL, "devices"), NULL, "emulator");
	_cleanup_xml_ xmlChar *before = xml_attribute(was, "emulator"), *set = xml_attribute(was, "set");
	_cleanup_xml_ xmlChar *now = xml_text(emulator);

	/* somebody has chosen another one since */
	if (!emulator || (set && now && !xmlStrEqual(now, set)))
		return;
	if (before)
		edit_emulator(root, (const char *)before);
	else
		remove_node(emulator);
}

int domain_edit_disable(xmlDocPtr doc)
{
	xmlNodePtr root = xmlDocGetRootElement(doc), was = find_was(root), line, metadata;

	if (!was)
		return -ENOENT;
	restore_vcpus(root, was);
	restore_emulator(root, was);
	remove_node(was);
	metadata = xml_child(root, NULL, "metadata");
	if (!xmlFirstElementChild(metadata))
		remove_node(metadata);
	line = xml_child(root, QEMU_URI, "commandline");
	if (!line)
		return 0;
	remove_arg(line, "-object", OBJECT);
	remove_arg(line, "-machine", MACHINE);
	if (!xmlFirstElementChild(line))
		remove_node(line);
	return 0;
}
