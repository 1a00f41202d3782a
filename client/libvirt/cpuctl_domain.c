/* SPDX-License-Identifier: GPL-2.0-or-later */

/* "cpuctl domain": what cpuctl does with libvirt, a program of its own so that cpuctl needs none of it. */

#include <getopt.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/libvirt/difference.h"
#include "client/libvirt/domain_edit.h"
#include "client/libvirt/domain_facts.h"
#include "client/libvirt/xml.h"
#include "daemon/base/util.h"
#include "proto/cpupolicy-proto.h"

/* As cpuctl(1) lists them; EXIT_FAILURE is its 1. */
enum { EXIT_NO_SUCH_VM = 2 };

struct options {
	const char *uri; /* NULL: libvirt's own default */
	const char *command, *domain;
	struct domain_edit edit;
	bool dry_run, print, yes;
};

DEFINE_CLEANUP(virConnectPtr, virConnectClose)
DEFINE_CLEANUP(virDomainPtr, virDomainFree)

static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int fail(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "cpuctl: ");
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_FAILURE;
}

static int fail_virt(const char *what, const char *which)
{
	const char *why = virGetLastErrorMessage();

	return fail("%s \"%s\": %s", what, which, why ? why : "unknown error");
}

/* ---- the command line ---- */

static void print_help(void)
{
	printf("Usage: cpuctl domain enable DOMAIN [--boot N] [--emulator PATH] [--socket PATH]\n"
	       "                            [--class NAME] [--tenant NAME] [--desired N]\n"
	       "                            [--dry-run | --print | --yes]\n"
	       "       cpuctl domain disable DOMAIN [--dry-run | --print | --yes]\n"
	       "       cpuctl domain set DOMAIN [--class NAME] [--tenant NAME] [--desired N]\n"
	       "       cpuctl domain show DOMAIN\n\n"
	       "enable has libvirt start the domain with a QEMU whose vCPUs policy switches, from its next\n"
	       "start on; disable restores what was there. Both show what they would change, and ask.\n"
	       "set says in the domain's metadata which service it is to have, at once.\n\n"
	       "Options:\n"
	       "  --boot N         vCPUs to begin with (as many as it starts with now)\n"
	       "  --emulator PATH  QEMU with the glue (%s)\n"
	       "  --socket PATH    cpupolicyd's socket for VMMs (/run/cpupolicy/vmm.sock)\n"
	       "  --class NAME     its service class; \"\": what the policy's rules say\n"
	       "  --tenant NAME    whose it is; \"\": what the policy's rules say\n"
	       "  --desired N      vCPUs it is to have; 0: as many as it begins with\n"
	       "  --dry-run        show what would change, and change nothing\n"
	       "  --print          print the whole XML as it would be, and change nothing\n"
	       "  --yes            do not ask\n"
	       "  --connect URI    libvirt's (qemu:///system)\n",
	       GLUE_EMULATOR);
}

static bool take_number(const char *option, const char *text, uint32_t min, uint32_t *ret)
{
	if (xml_number(text, min, CPUPOLICY_MAX_VCPUS, ret) >= 0)
		return true;
	fail("--%s: \"%s\" is not a number of vCPUs, %u to %u", option, text, min, CPUPOLICY_MAX_VCPUS);
	return false;
}

static bool take_option(struct options *o, int opt)
{
	switch (opt) {
	case 'b':
		return take_number("boot", optarg, 1, &o->edit.boot);
	case 'e':
		o->edit.emulator = optarg;
		return true;
	case 's':
		o->edit.socket = optarg;
		return true;
	case 'C':
		o->edit.class = optarg;
		return true;
	case 't':
		o->edit.tenant = optarg;
		return true;
	case 'd':
		o->edit.set_desired = true;
		return take_number("desired", optarg, 0, &o->edit.desired);
	case 'n':
		o->dry_run = true;
		return true;
	case 'p':
		o->print = true;
		return true;
	case 'y':
		o->yes = true;
		return true;
	case 'c':
		o->uri = optarg;
		return true;
	default: /* getopt has said what */
		return false;
	}
}

/* 0: go on; 1: all is done; negative: it is wrong. */
static int parse_options(int argc, char *argv[], struct options *o)
{
	static const struct option longs[] = {
		{"boot", required_argument, NULL, 'b'},   {"emulator", required_argument, NULL, 'e'},
		{"socket", required_argument, NULL, 's'}, {"class", required_argument, NULL, 'C'},
		{"tenant", required_argument, NULL, 't'}, {"desired", required_argument, NULL, 'd'},
		{"dry-run", no_argument, NULL, 'n'},      {"print", no_argument, NULL, 'p'},
		{"yes", no_argument, NULL, 'y'},          {"connect", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},         {0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt == 'h') {
			print_help();
			return 1;
		}
		if (!take_option(o, opt))
			return -EINVAL;
	}
	if (argc - optind != 2) {
		fail("a command and a domain are expected: \"cpuctl domain --help\" says which");
		return -EINVAL;
	}
	o->command = argv[optind];
	o->domain = argv[optind + 1];
	if (o->dry_run + o->print + o->yes > 1) {
		fail("--dry-run, --print and --yes exclude each other");
		return -EINVAL;
	}
	return 0;
}

/* ---- enable, disable ---- */

static char *dump(xmlDocPtr doc)
{
	xmlBufferPtr buffer = xmlBufferCreate();
	char *text = NULL;

	if (buffer && xmlNodeDump(buffer, doc, xmlDocGetRootElement(doc), 0, 0) >= 0 &&
	    xmlBufferCCat(buffer, "\n") == 0)
		text = strdup((const char *)xmlBufferContent(buffer));
	xmlBufferFree(buffer);
	return text;
}

static bool confirmed(const struct options *o)
{
	char answer[16];

	if (o->yes)
		return true;
	if (!isatty(STDIN_FILENO)) {
		fail("nothing is changed: without a terminal to ask, --yes says so");
		return false;
	}
	printf("Change the domain \"%s\" so? [y/N] ", o->domain);
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y');
}

static int define(const struct options *o, virConnectPtr connection, virDomainPtr domain, const char *xml)
{
	_cleanup_(virDomainFreep) virDomainPtr defined = virDomainDefineXML(connection, xml);

	if (!defined)
		return fail_virt("libvirt does not take the new definition of", o->domain);
	if (virDomainIsActive(domain) == 1)
		printf("%s: changed; it is running, and the change takes effect at its next start\n", o->domain);
	else
		printf("%s: changed\n", o->domain);
	return EXIT_SUCCESS;
}

static int offer(const struct options *o, virConnectPtr connection, virDomainPtr domain, const char *before,
		 xmlDocPtr doc)
{
	_cleanup_free_ char *after = dump(doc);

	if (!after)
		return fail("out of memory");
	if (o->print)
		return fputs(after, stdout) >= 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	if (strcmp(before, after) == 0) {
		printf("%s: nothing to change\n", o->domain);
		return EXIT_SUCCESS;
	}
	if (difference_print(before, after) < 0)
		return fail("diff(1) cannot be run to show what would change; --print shows all of it");
	if (o->dry_run)
		return EXIT_SUCCESS;
	return confirmed(o) ? define(o, connection, domain, after) : EXIT_FAILURE;
}

static int edit(const struct options *o, virConnectPtr connection, virDomainPtr domain, xmlDocPtr doc)
{
	_cleanup_free_ char *before = dump(doc), *error = NULL;
	int r;

	if (!before)
		return fail("out of memory");
	if (strcmp(o->command, "disable") == 0) {
		r = domain_edit_disable(doc);
		if (r < 0 && !o->print) {
			printf("%s: \"cpuctl domain enable\" has changed nothing of it\n", o->domain);
			return EXIT_SUCCESS;
		}
	} else {
		r = domain_edit_enable(doc, &o->edit, &error);
		if (r < 0)
			return fail("%s: %s", o->domain, error ? error : "out of memory");
	}
	return offer(o, connection, domain, before, doc);
}

static int command_edit(const struct options *o, virConnectPtr connection, virDomainPtr domain)
{
	/* with passwords, which would be lost otherwise; they are not in the difference, since they do not change */
	_cleanup_free_ char *xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml ? xml_parse(xml) : NULL;

	if (!doc)
		return fail_virt("cannot read the definition of", o->domain);
	if (virDomainIsPersistent(domain) != 1)
		return fail("%s has no definition that is kept: it ends when it stops", o->domain);
	if (strcmp(o->command, "enable") == 0 && access(o->edit.emulator, X_OK) < 0 && !o->print)
		return fail("there is no QEMU with the glue at %s: %s; --emulator says where it is", o->edit.emulator,
			    strerror(errno));
	return edit(o, connection, domain, doc);
}

/* ---- set ---- */

static int set_policy(virDomainPtr domain, const struct domain_policy *p)
{
	bool nothing = !p->class && !p->tenant && !p->desired;
	_cleanup_free_ char *text = domain_policy_format(p);
	unsigned flags = (virDomainIsActive(domain) == 1 ? VIR_DOMAIN_AFFECT_LIVE : 0) |
			 (virDomainIsPersistent(domain) == 1 ? VIR_DOMAIN_AFFECT_CONFIG : 0);

	if (!text)
		return -ENOMEM;
	return virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, nothing ? NULL : text, DOMAIN_POLICY_PREFIX,
				    DOMAIN_POLICY_URI, flags) < 0
		       ? -EIO
		       : 0;
}

/* Of what is to be at the next start; a domain that is not kept has the running one alone. */
static int get_policy(virDomainPtr domain, struct domain_policy *ret, char **ret_error)
{
	unsigned flags = virDomainIsPersistent(domain) == 1 ? VIR_DOMAIN_AFFECT_CONFIG : VIR_DOMAIN_AFFECT_LIVE;
	_cleanup_free_ char *xml = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, DOMAIN_POLICY_URI, flags);

	if (xml)
		return domain_policy_parse(ret, xml, ret_error);
	*ret = (struct domain_policy){0};
	return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_METADATA ? 0 : -EIO;
}

static int command_set(const struct options *o, virConnectPtr connection, virDomainPtr domain)
{
	struct domain_policy policy = {0};
	_cleanup_free_ char *error = NULL;
	int r;

	if (!o->edit.class && !o->edit.tenant && !o->edit.set_desired)
		return fail("what is to be set? --class, --tenant, --desired");
	r = get_policy(domain, &policy, &error);
	if (r == -EINVAL) {
		fprintf(stderr, "cpuctl: %s; it is replaced\n", error);
		free(TAKE(error));
		r = 0;
	}
	if (r >= 0)
		r = domain_edit_policy(&o->edit, &policy, &error);
	if (r >= 0)
		r = set_policy(domain, &policy);
	domain_policy_clear(&policy);
	if (r == -EIO)
		return fail_virt("libvirt does not take the metadata of", o->domain);
	return r < 0 ? fail("%s", error ? error : "out of memory") : EXIT_SUCCESS;
}

/* ---- show ---- */

static const char *glue_of(const struct domain_facts *f, bool enabled)
{
	if (!f->glue)
		return enabled ? "enabled, and somebody removed the object from its qemu:commandline" : "no";
	return enabled ? "enabled by cpuctl" : "enabled by hand";
}

static int command_show(const struct options *o, virConnectPtr connection, virDomainPtr domain)
{
	_cleanup_free_ char *xml = virDomainGetXMLDesc(domain, 0);
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = xml ? xml_parse(xml) : NULL;
	struct domain_defaults defaults = {0};
	struct domain_facts f;

	if (!doc || domain_facts_read(&f, xml, &defaults) < 0)
		return fail_virt("cannot read", o->domain);
	printf("Name     %s\nUUID     %s\nState    %s\n", f.name, f.uuid, f.running ? "running" : "stopped");
	printf("Glue     %s\n", glue_of(&f, domain_edit_is_enabled(doc)));
	printf("vCPUs    %u of %u%s\n", domain_facts_count(&f, DOMAIN_VCPU_PRESENT), f.possible,
	       f.hotplug ? ", plugged by libvirt" : "");
	if (f.policy_error)
		printf("Wrong    %s\n", f.policy_error);
	printf("Class    %s\nTenant   %s\n", f.policy.class ? f.policy.class : "-",
	       f.policy.tenant ? f.policy.tenant : "-");
	if (f.policy.desired)
		printf("Desired  %u\n", f.policy.desired);
	else
		printf("Desired  -\n");
	domain_facts_clear(&f);
	return EXIT_SUCCESS;
}

/* ---- life ---- */

static int run(const struct options *o)
{
	static const struct {
		const char *name;
		int (*run)(const struct options *o, virConnectPtr connection, virDomainPtr domain);
	} commands[] = {
		{"enable", command_edit}, {"disable", command_edit}, {"set", command_set}, {"show", command_show}};
	_cleanup_(virConnectClosep) virConnectPtr connection = NULL;
	_cleanup_(virDomainFreep) virDomainPtr domain = NULL;
	size_t i = 0;

	while (i < ARRAY_SIZE(commands) && strcmp(commands[i].name, o->command) != 0)
		i++;
	if (i == ARRAY_SIZE(commands))
		return fail("there is no command \"domain %s\"", o->command);
	connection = virConnectOpen(o->uri);
	if (!connection)
		return fail_virt("cannot connect to libvirt at", o->uri ? o->uri : "its default");
	domain = virDomainLookupByName(connection, o->domain);
	if (!domain)
		domain = virDomainLookupByUUIDString(connection, o->domain);
	if (!domain) {
		fail("libvirt has no domain \"%s\"", o->domain);
		return EXIT_NO_SUCH_VM;
	}
	return commands[i].run(o, connection, domain);
}

/* Errors are printed by whoever has made the call. */
static void on_error(void *userdata, virErrorPtr error)
{
}

int main(int argc, char *argv[])
{
	const char *uri = getenv("LIBVIRT_DEFAULT_URI");
	struct options options = {
		.uri = uri && *uri ? uri : "qemu:///system",
		.edit = {.emulator = GLUE_EMULATOR, .socket = "/run/cpupolicy/vmm.sock"},
	};
	int r;

	virSetErrorFunc(NULL, on_error);
	r = parse_options(argc, argv, &options);
	if (r < 0)
		return EXIT_FAILURE;
	r = r > 0 ? EXIT_SUCCESS : run(&options);
	return fflush(stdout) == 0 ? r : EXIT_FAILURE;
}
