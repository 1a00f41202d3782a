/* SPDX-License-Identifier: GPL-2.0-or-later */

/* client/libvirt: what is read from a domain's XML, and what is written to it. */

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/libvirt/domain_edit.h"
#include "client/libvirt/domain_facts.h"
#include "client/libvirt/domain_policy.h"
#include "client/libvirt/quota.h"
#include "client/libvirt/xml.h"

#define UUID "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

/* What differs between the tests is put in here. */
#define DOMAIN(attributes, metadata, vcpu, arch, machine, rest)                                                        \
	"<domain type='kvm'" attributes ">\n"                                                                          \
	"  <name>web1</name>\n"                                                                                        \
	"  <uuid>" UUID "</uuid>\n" metadata "  " vcpu "\n"                                                            \
	"  <os>\n"                                                                                                     \
	"    <type arch='" arch "' machine='" machine "'>hvm</type>\n"                                                 \
	"  </os>\n"                                                                                                    \
	"  <devices>\n"                                                                                                \
	"    <emulator>/usr/bin/qemu</emulator>\n"                                                                     \
	"  </devices>\n" rest "</domain>\n"
#define QEMU_NS   " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
#define ARM(rest) DOMAIN("", "", "<vcpu current='2'>4</vcpu>", "aarch64", "virt-10.0", rest)
#define POLICY(content)                                                                                                \
	"  <metadata>\n    <p:policy xmlns:p='https://cpupolicy.org/xmlns/domain/1' " content "\n  </metadata>\n"

static const struct domain_defaults nobody;

static struct domain_facts read_facts(const char *xml, const struct domain_defaults *defaults)
{
	struct domain_facts f;

	ck_assert_int_eq(domain_facts_read(&f, xml, defaults), 0);
	return f;
}

/* ---- facts ---- */

START_TEST(test_identity)
{
	struct domain_facts f = read_facts(ARM(""), &nobody);

	ck_assert_str_eq(f.uuid, UUID);
	ck_assert_str_eq(f.name, "web1");
	ck_assert(!f.running);
	ck_assert(!f.glue);
	ck_assert(!f.has_uid);
	ck_assert_ptr_null(f.label);
	domain_facts_clear(&f);
	f = read_facts(DOMAIN(" id='3'", "", "<vcpu>1</vcpu>", "x86_64", "pc", ""), &nobody);
	ck_assert(f.running);
	domain_facts_clear(&f);
}
END_TEST

START_TEST(test_not_a_domain)
{
	static const char *const texts[] = {
		"",
		"no XML",
		"<network/>",
		DOMAIN("", "", "<vcpu>0</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", "", "<vcpu>513</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", "", "", "x86_64", "pc", ""),
		"<domain><name>a</name><uuid>not one</uuid><vcpu>1</vcpu></domain>",
		/* no file is read, whatever the XML says */
		"<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domain><name>&e;</name></domain>",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct domain_facts f;

		ck_assert_int_eq(domain_facts_read(&f, texts[i], &nobody), -EINVAL);
	}
}
END_TEST

START_TEST(test_owner)
{
	static const char capabilities[] =
		"<capabilities><host><secmodel><model>selinux</model><baselabel type='kvm'>+1:+1</baselabel></secmodel>"
		"<secmodel><model>dac</model><baselabel type='kvm'>+107:+107</baselabel>"
		"<baselabel type='qemu'>+108:+108</baselabel></secmodel></host></capabilities>";
	struct domain_defaults defaults;
	struct domain_facts f;
	uint32_t uid;

	domain_defaults_read(&defaults, capabilities);
	ck_assert(defaults.has_uid_kvm && defaults.uid_kvm == 107);
	ck_assert(defaults.has_uid_qemu && defaults.uid_qemu == 108);
	f = read_facts(ARM(""), &defaults);
	ck_assert(f.has_uid && f.uid == 107);
	domain_facts_clear(&f);
	f = read_facts(ARM("<seclabel type='static' model='dac'><label>+64055:+64055</label></seclabel>"
			   "<seclabel type='dynamic' model='apparmor'><label>libvirt-" UUID "</label></seclabel>"),
		       &defaults);
	ck_assert(f.has_uid && f.uid == 64055);
	ck_assert_str_eq(f.label, "libvirt-" UUID);
	domain_facts_clear(&f);
	/* QEMU then runs as libvirt does, which is not known */
	f = read_facts(ARM("<seclabel type='none' model='dac'/>"), &defaults);
	ck_assert(!f.has_uid);
	domain_facts_clear(&f);
	ck_assert_int_eq(domain_facts_parse_owner("root:root", &uid), 0);
	ck_assert_uint_eq(uid, 0);
	ck_assert_int_eq(domain_facts_parse_owner("7:8", &uid), 0);
	ck_assert_uint_eq(uid, 7);
	ck_assert_int_lt(domain_facts_parse_owner("+x:+8", &uid), 0);
	ck_assert_int_lt(domain_facts_parse_owner(":+8", &uid), 0);
	/* (uid_t)-1 is nobody */
	ck_assert_int_lt(domain_facts_parse_owner("+4294967295:+0", &uid), 0);
	ck_assert_int_eq(domain_facts_parse_owner("no such user here:x", &uid), -ENOENT);
}
END_TEST

START_TEST(test_vcpus)
{
	struct domain_facts f = read_facts(DOMAIN("", "", "<vcpu current='2'>4</vcpu>", "x86_64", "q35", ""), &nobody);

	ck_assert_uint_eq(f.possible, 4);
	ck_assert(f.hotplug);
	ck_assert_uint_eq(domain_facts_count(&f, DOMAIN_VCPU_PRESENT), 2);
	ck_assert_uint_eq(domain_facts_count(&f, DOMAIN_VCPU_PRESENT | DOMAIN_VCPU_FIXED), 2);
	domain_facts_clear(&f);
	f = read_facts(DOMAIN("", "",
			      "<vcpu>3</vcpu><vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/>"
			      "<vcpu id='1' enabled='no' hotpluggable='yes'/>"
			      "<vcpu id='2' enabled='yes' hotpluggable='yes'/><vcpu id='3' enabled='yes'/></vcpus>",
			      "x86_64", "q35", ""),
		       &nobody);
	ck_assert(f.hotplug);
	ck_assert_uint_eq(f.vcpus[1], 0);
	ck_assert_uint_eq(f.vcpus[2], DOMAIN_VCPU_PRESENT);
	ck_assert_uint_eq(domain_facts_count(&f, DOMAIN_VCPU_PRESENT), 2);
	domain_facts_clear(&f);
	/* nothing to plug, and nowhere to */
	f = read_facts(DOMAIN("", "", "<vcpu>4</vcpu>", "x86_64", "q35", ""), &nobody);
	ck_assert(!f.hotplug);
	domain_facts_clear(&f);
	f = read_facts(ARM(""), &nobody);
	ck_assert(!f.hotplug);
	domain_facts_clear(&f);
}
END_TEST

/* ---- policy ---- */

START_TEST(test_policy)
{
	struct domain_facts f = read_facts(
		DOMAIN("", POLICY("class='gold' tenant='acme' desired='6'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		&nobody);
	_cleanup_free_ char *text = NULL, *error = NULL;
	struct domain_policy p;

	ck_assert_ptr_null(f.policy_error);
	ck_assert_str_eq(f.policy.class, "gold");
	ck_assert_str_eq(f.policy.tenant, "acme");
	ck_assert_uint_eq(f.policy.desired, 6);
	/* written and read again it is the same */
	text = domain_policy_format(&f.policy);
	ck_assert_int_eq(domain_policy_parse(&p, text, &error), 0);
	ck_assert(domain_policy_equal(&p, &f.policy));
	domain_policy_clear(&p);
	domain_facts_clear(&f);
}
END_TEST

START_TEST(test_wrong_policy)
{
	static const char *const texts[] = {
		DOMAIN("", POLICY("class=''/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("class='a b'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("tenant='&lt;'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("desired='0'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("desired='513'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("desired='4x'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("desired='99999999999999999999'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("klass='gold'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("p:class='gold'/>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("class='gold'>text</p:policy>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", POLICY("class='gold'><more/></p:policy>"), "<vcpu>8</vcpu>", "x86_64", "pc", ""),
		DOMAIN("", "<metadata><p:other xmlns:p='https://cpupolicy.org/xmlns/domain/1'/></metadata>",
		       "<vcpu>8</vcpu>", "x86_64", "pc", ""),
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct domain_facts f = read_facts(texts[i], &nobody);

		ck_assert_msg(f.policy_error != NULL, "%s", texts[i]);
		ck_assert_ptr_null(f.policy.class);
		ck_assert_uint_eq(f.policy.desired, 0);
		domain_facts_clear(&f);
	}
}
END_TEST

START_TEST(test_foreign_metadata_is_none)
{
	struct domain_facts f = read_facts(DOMAIN("", "<metadata><o:x xmlns:o='http://other/' class='a b'/></metadata>",
						  "<vcpu>8</vcpu>", "x86_64", "pc", ""),
					   &nobody);

	ck_assert_ptr_null(f.policy_error);
	ck_assert_ptr_null(f.policy.class);
	domain_facts_clear(&f);
}
END_TEST

/* ---- enable, disable ---- */

static char *dump(xmlDocPtr doc)
{
	xmlBufferPtr buffer = xmlBufferCreate();
	char *text;

	xmlNodeDump(buffer, doc, xmlDocGetRootElement(doc), 0, 0);
	text = strdup((const char *)xmlBufferContent(buffer));
	xmlBufferFree(buffer);
	return text;
}

static const struct domain_edit edit = {.emulator = "/opt/qemu & co", .socket = "/run/vmm.sock"};

static void enable(xmlDocPtr doc, const struct domain_edit *how)
{
	_cleanup_free_ char *error = NULL;

	ck_assert_msg(domain_edit_enable(doc, how, &error) == 0, "%s", error);
}

START_TEST(test_enable_and_back)
{
	static const char *const texts[] = {
		ARM(""),
		DOMAIN(QEMU_NS, POLICY("class='gold'/>"), "<vcpu>4</vcpu>", "aarch64", "virt",
		       "  <qemu:commandline>\n    <qemu:arg value='-s'/>\n  </qemu:commandline>\n"),
		DOMAIN("", "",
		       "<vcpu current='1'>2</vcpu>\n  <vcpus>\n    <vcpu id='0' enabled='yes'/>\n"
		       "    <vcpu id='1' enabled='no'/>\n  </vcpus>",
		       "aarch64", "virt-9.2", ""),
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml_parse(texts[i]), original = xml_parse(texts[i]);
		_cleanup_free_ char *before = dump(original), *once = NULL, *twice = NULL, *after = NULL;
		struct domain_facts f, g;

		enable(doc, &edit);
		ck_assert(domain_edit_is_enabled(doc));
		once = dump(doc);
		enable(doc, &edit);
		twice = dump(doc);
		ck_assert_str_eq(once, twice);
		ck_assert_ptr_nonnull(strstr(once, "<emulator>/opt/qemu &amp; co</emulator>"));
		ck_assert_ptr_null(strstr(once, "<vcpu current"));
		f = read_facts(once, &nobody);
		g = read_facts(before, &nobody);
		ck_assert(f.glue && !g.glue);
		ck_assert_uint_eq(domain_facts_count(&f, DOMAIN_VCPU_PRESENT), f.possible);
		ck_assert(domain_policy_equal(&f.policy, &g.policy));
		domain_facts_clear(&f);
		domain_facts_clear(&g);
		ck_assert_int_eq(domain_edit_disable(doc), 0);
		after = dump(doc);
		/* but for a declaration that nobody uses any more */
		ck_assert_str_eq(strchr(after, '>'), strchr(before, '>'));
		ck_assert_int_eq(domain_edit_disable(doc), -ENOENT);
	}
}
END_TEST

START_TEST(test_boot_count)
{
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml_parse(ARM(""));
	_cleanup_free_ char *text = NULL, *error = NULL;
	struct domain_edit how = edit;

	/* as many as it starts with; then what was asked for stays */
	enable(doc, &how);
	text = dump(doc);
	ck_assert_ptr_nonnull(strstr(text, "\"cpupolicy,id=cpupol0,path=/run/vmm.sock,boot=2\""));
	how.boot = 3;
	enable(doc, &how);
	how.boot = 0;
	enable(doc, &how);
	free(TAKE(text));
	text = dump(doc);
	ck_assert_ptr_nonnull(strstr(text, ",boot=3\""));
	how.boot = 5;
	ck_assert_int_eq(domain_edit_enable(doc, &how, &error), -EINVAL);
}
END_TEST

START_TEST(test_enable_writes_policy)
{
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml_parse(ARM(""));
	_cleanup_free_ char *text = NULL;
	struct domain_edit how = edit;
	struct domain_facts f;

	how.class = "gold";
	how.set_desired = true;
	how.desired = 3;
	enable(doc, &how);
	how = edit;
	how.tenant = "acme";
	how.class = "";
	enable(doc, &how);
	text = dump(doc);
	f = read_facts(text, &nobody);
	ck_assert_ptr_null(f.policy.class);
	ck_assert_str_eq(f.policy.tenant, "acme");
	ck_assert_uint_eq(f.policy.desired, 3);
	domain_facts_clear(&f);
}
END_TEST

START_TEST(test_enable_is_refused)
{
	static const struct {
		const char *xml;
		struct domain_edit edit;
	} cases[] = {
		{DOMAIN("", "", "<vcpu>4</vcpu>", "x86_64", "pc", ""), {.emulator = "/q", .socket = "/s"}},
		{DOMAIN("", "", "<vcpu>4</vcpu>", "aarch64", "raspi3b", ""), {.emulator = "/q", .socket = "/s"}},
		{ARM(""), {.emulator = "/q", .socket = "relative"}},
		{ARM(""), {.emulator = "/q", .socket = "/s,standalone=on"}},
		{ARM(""), {.emulator = "/q", .socket = "/s", .class = "a b"}},
		{DOMAIN(QEMU_NS, "", "<vcpu>4</vcpu>", "aarch64", "virt",
			"<qemu:commandline><qemu:arg value='-object'/><qemu:arg value='cpupolicy,id=mine,path=/s'/>"
			"</qemu:commandline>"),
		 {.emulator = "/q", .socket = "/s"}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml_parse(cases[i].xml), original = xml_parse(cases[i].xml);
		_cleanup_free_ char *error = NULL, *before = dump(original), *after = NULL;

		ck_assert_int_eq(domain_edit_enable(doc, &cases[i].edit, &error), -EINVAL);
		ck_assert_ptr_nonnull(error);
		after = dump(doc);
		ck_assert_str_eq(before, after);
	}
}
END_TEST

START_TEST(test_disable_leaves_what_others_changed)
{
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml_parse(ARM(""));
	_cleanup_free_ char *text = NULL;
	xmlNodePtr root = xmlDocGetRootElement(doc);

	enable(doc, &edit);
	xmlNodeSetContent(xml_child(xml_child(root, NULL, "devices"), NULL, "emulator"), BAD_CAST "/their/qemu");
	ck_assert_int_eq(domain_edit_disable(doc), 0);
	text = dump(doc);
	ck_assert_ptr_nonnull(strstr(text, "<emulator>/their/qemu</emulator>"));
}
END_TEST

/* ---- quota ---- */

START_TEST(test_quota)
{
	struct quota_value none = {100000, -1}, v;

	v = quota_bound(2500, none);
	ck_assert(v.period == 100000 && v.quota == 250000);
	/* the least that there is */
	v = quota_bound(1, none);
	ck_assert(v.quota == 1000);
	v = quota_bound(10, none);
	ck_assert(v.quota == 1000);
	v = quota_bound(11, none);
	ck_assert(v.quota == 1100);
	/* the tighter one, in whatever period it is given */
	v = quota_bound(2500, (struct quota_value){50000, 100000});
	ck_assert(v.period == 50000 && v.quota == 100000);
	v = quota_bound(2500, (struct quota_value){50000, 125000});
	ck_assert(v.period == 100000 && v.quota == 250000);
	v = quota_bound(512000, none);
	ck_assert(v.quota == 51200000);
	ck_assert(quota_equal((struct quota_value){1000, -1}, (struct quota_value){1000, -2}));
	ck_assert(!quota_equal((struct quota_value){1000, -1}, (struct quota_value){1000, 1}));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("domain");
	TCase *tc = tcase_create("domain");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, test_identity);
	tcase_add_test(tc, test_not_a_domain);
	tcase_add_test(tc, test_owner);
	tcase_add_test(tc, test_vcpus);
	tcase_add_test(tc, test_policy);
	tcase_add_test(tc, test_wrong_policy);
	tcase_add_test(tc, test_foreign_metadata_is_none);
	tcase_add_test(tc, test_enable_and_back);
	tcase_add_test(tc, test_boot_count);
	tcase_add_test(tc, test_enable_writes_policy);
	tcase_add_test(tc, test_enable_is_refused);
	tcase_add_test(tc, test_disable_leaves_what_others_changed);
	tcase_add_test(tc, test_quota);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
