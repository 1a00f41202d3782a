/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/domain_facts.h"

#include <pwd.h>
#include <string.h>

#include "client/libvirt/xml.h"
#include "proto/cpupolicy-proto.h"

#define QEMU_URI "http://libvirt.org/schemas/domain/qemu/1.0"

void domain_facts_clear(struct domain_facts *f)
{
	free(f->name);
	free(f->label);
	free(f->vcpus);
	domain_policy_clear(&f->policy);
	free(f->policy_error);
	*f = (struct domain_facts){0};
}

void domain_facts_free(struct domain_facts *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		domain_facts_clear(&f[i]);
	free(f);
}

uint32_t domain_facts_count(const struct domain_facts *f, uint8_t flags)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < f->possible; i++)
		n += (f->vcpus[i] & flags) == flags;
	return n;
}

/* ---- whose process it is ---- */

int domain_facts_parse_owner(const char *label, uint32_t *ret_uid)
{
	size_t length = strcspn(label, ":");
	_cleanup_free_ char *user = strndup(label, length);
	struct passwd pw, *found = NULL;
	char buffer[4096];

	if (!user)
		return -ENOMEM;
	if (!*user)
		return -EINVAL;
	/* '+' rules a name out, as in libvirt */
	if (*user == '+')
		return xml_number(user + 1, 0, UINT32_MAX - 1, ret_uid);
	if (getpwnam_r(user, &pw, buffer, sizeof(buffer), &found) == 0 && found) {
		*ret_uid = pw.pw_uid;
		return 0;
	}
	return xml_number(user, 0, UINT32_MAX - 1, ret_uid) < 0 ? -ENOENT : 0;
}

static bool owner_of(xmlNodePtr node, uint32_t *ret_uid)
{
	_cleanup_xml_ xmlChar *text = xml_text(node);

	return text && domain_facts_parse_owner((const char *)text, ret_uid) >= 0;
}

static xmlNodePtr secmodel(xmlNodePtr capabilities, const char *name)
{
	xmlNodePtr host = xml_child(capabilities, NULL, "host");

	for (xmlNodePtr s = xml_child(host, NULL, "secmodel"); s; s = xml_next(s, NULL, "secmodel")) {
		_cleanup_xml_ xmlChar *model = xml_text(xml_child(s, NULL, "model"));

		if (model && xmlStrEqual(model, BAD_CAST name))
			return s;
	}
	return NULL;
}

void domain_defaults_read(struct domain_defaults *ret, const char *capabilities)
{
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml_parse(capabilities);
	xmlNodePtr dac = doc ? secmodel(xmlDocGetRootElement(doc), "dac") : NULL;

	*ret = (struct domain_defaults){0};
	for (xmlNodePtr l = xml_child(dac, NULL, "baselabel"); l; l = xml_next(l, NULL, "baselabel")) {
		if (xml_attribute_is(l, "type", "kvm"))
			ret->has_uid_kvm = owner_of(l, &ret->uid_kvm);
		else if (xml_attribute_is(l, "type", "qemu"))
			ret->has_uid_qemu = owner_of(l, &ret->uid_qemu);
	}
}

static int read_labels(struct domain_facts *f, xmlNodePtr root, const struct domain_defaults *defaults)
{
	bool kvm = xml_attribute_is(root, "type", "kvm");

	f->has_uid = kvm ? defaults->has_uid_kvm : defaults->has_uid_qemu;
	f->uid = kvm ? defaults->uid_kvm : defaults->uid_qemu;
	for (xmlNodePtr s = xml_child(root, NULL, "seclabel"); s; s = xml_next(s, NULL, "seclabel")) {
		_cleanup_xml_ xmlChar *label = xml_text(xml_child(s, NULL, "label"));

		if (xml_attribute_is(s, "model", "dac")) {
			/* without a label QEMU runs as whoever libvirt is */
			f->has_uid = label && domain_facts_parse_owner((const char *)label, &f->uid) >= 0;
		} else if (label && *label && !f->label) {
			f->label = strdup((const char *)label);
			if (!f->label)
				return -ENOMEM;
		}
	}
	return 0;
}

/* ---- vCPUs ---- */

/* Whether QEMU has vCPU hotplug there; what libvirt then says of single vCPUs goes before. */
static bool arch_has_hotplug(xmlNodePtr root)
{
	static const char *const archs[] = {"x86_64", "i686", "ppc64", "ppc64le", "s390x"};
	_cleanup_xml_ xmlChar *arch = xml_attribute(xml_child(xml_child(root, NULL, "os"), NULL, "type"), "arch");

	for (size_t i = 0; arch && i < ARRAY_SIZE(archs); i++)
		if (xmlStrEqual(arch, BAD_CAST archs[i]))
			return true;
	return false;
}

static void read_each_vcpu(struct domain_facts *f, xmlNodePtr vcpus)
{
	f->hotplug = false;
	for (xmlNodePtr v = xml_child(vcpus, NULL, "vcpu"); v; v = xml_next(v, NULL, "vcpu")) {
		_cleanup_xml_ xmlChar *id = xml_attribute(v, "id");
		bool pluggable = xml_attribute_is(v, "hotpluggable", "yes");
		uint32_t i;

		if (!id || xml_number((const char *)id, 0, f->possible - 1, &i) < 0)
			continue;
		f->vcpus[i] = (xml_attribute_is(v, "enabled", "yes") ? DOMAIN_VCPU_PRESENT : 0) |
			      (pluggable ? 0 : DOMAIN_VCPU_FIXED);
		f->hotplug = f->hotplug || pluggable;
	}
}

static int read_vcpus(struct domain_facts *f, xmlNodePtr root)
{
	xmlNodePtr vcpu = xml_child(root, NULL, "vcpu"), each = xml_child(root, NULL, "vcpus");
	_cleanup_xml_ xmlChar *most = xml_text(vcpu), *current = xml_attribute(vcpu, "current");
	uint32_t n;

	if (!most || xml_number((const char *)most, 1, CPUPOLICY_MAX_VCPUS, &f->possible) < 0)
		return -EINVAL;
	if (!current || xml_number((const char *)current, 1, f->possible, &n) < 0)
		n = f->possible;
	f->vcpus = calloc(f->possible, 1);
	if (!f->vcpus)
		return -ENOMEM;
	/* those that it was started with stay: libvirt says so one by one only once some were plugged */
	for (uint32_t i = 0; i < f->possible; i++)
		f->vcpus[i] = i < n ? DOMAIN_VCPU_PRESENT | DOMAIN_VCPU_FIXED : 0;
	f->hotplug = n < f->possible && arch_has_hotplug(root);
	if (each)
		read_each_vcpu(f, each);
	f->vcpus[0] = DOMAIN_VCPU_PRESENT | DOMAIN_VCPU_FIXED;
	return 0;
}

/* ---- the rest ---- */

static bool is_our_object(const xmlChar *value)
{
	const char *text = (const char *)value;

	return strncmp(text, "cpupolicy,", 10) == 0 || strstr(text, "\"qom-type\":\"cpupolicy\"") != NULL;
}

static bool has_glue(xmlNodePtr root)
{
	xmlNodePtr line = xml_child(root, QEMU_URI, "commandline");

	for (xmlNodePtr a = xml_child(line, QEMU_URI, "arg"); a; a = xml_next(a, QEMU_URI, "arg")) {
		_cleanup_xml_ xmlChar *value = xml_attribute(a, "value");

		if (value && is_our_object(value))
			return true;
	}
	return false;
}

static int read_identity(struct domain_facts *f, xmlNodePtr root)
{
	_cleanup_xml_ xmlChar *uuid = xml_text(xml_child(root, NULL, "uuid"));
	_cleanup_xml_ xmlChar *name = xml_text(xml_child(root, NULL, "name"));
	uint8_t bytes[CPUPOLICY_UUID_SIZE];

	if (!uuid || !name || uuid_parse(bytes, (const char *)uuid) < 0)
		return -EINVAL;
	uuid_format(f->uuid, bytes);
	f->name = strdup((const char *)name);
	return f->name ? 0 : -ENOMEM;
}

static int read_policy(struct domain_facts *f, xmlNodePtr root)
{
	int r = domain_policy_read(&f->policy, xml_child(root, NULL, "metadata"), &f->policy_error);

	return r == -EINVAL ? 0 : r;
}

int domain_facts_read(struct domain_facts *ret, const char *xml, const struct domain_defaults *defaults)
{
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml_parse(xml);
	xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;
	struct domain_facts f = {0};
	int r;

	if (!root || !xml_is(root, NULL, "domain"))
		return -EINVAL;
	r = read_identity(&f, root);
	if (r >= 0)
		r = read_vcpus(&f, root);
	if (r >= 0)
		r = read_labels(&f, root, defaults);
	if (r >= 0)
		r = read_policy(&f, root);
	if (r < 0) {
		domain_facts_clear(&f);
		return r;
	}
	f.running = xmlHasProp(root, BAD_CAST "id") != NULL;
	f.glue = has_glue(root);
	*ret = f;
	return 0;
}
