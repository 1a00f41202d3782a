/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kexec-jump IMAGE INITRD CMDLINE: boots another kernel from the running one.
 *
 * Debian's arm64 kernel has kexec_load() alone, and its tool for it needs Xen's libraries. The new
 * kernel is given this one's device tree, in which firmware's stub noted where UEFI's tables are. The
 * command line is replaced in place, so it may not become longer.
 */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE         65536UL /* a multiple of every page size */
#define HUGE         0x200000UL
#define REBOOT_KEXEC 0x45584543

/* Entered with the MMU off; gives the new kernel what it expects. */
static struct {
	uint32_t code[6];
	uint64_t kernel, tree;
} stub = {
	.code =
		{
			0x580000c4, /* ldr x4, kernel */
			0x580000e0, /* ldr x0, tree */
			0xaa1f03e1, /* mov x1, xzr */
			0xaa1f03e2, /* mov x2, xzr */
			0xaa1f03e3, /* mov x3, xzr */
			0xd61f0080, /* br x4 */
		},
};

struct image_header {
	uint32_t code[2];
	uint64_t text_offset, image_size, flags;
};

static void fail(const char *what)
{
	fprintf(stderr, "kexec-jump: %s: %s\n", what, strerror(errno));
	exit(1);
}

static char *read_file(const char *path, size_t *ret_size)
{
	int fd = open(path, O_RDONLY);
	size_t size = 0, room = 1 << 20;
	char *data = malloc(room);
	ssize_t n;

	if (fd < 0 || !data)
		fail(path);
	while ((n = read(fd, data + size, room - size)) > 0) {
		size += (size_t)n;
		if (size == room && !(data = realloc(data, room *= 2)))
			fail(path);
	}
	if (n < 0)
		fail(path);
	close(fd);
	*ret_size = size;
	return data;
}

/* Free memory of that size, aligned: the first stretch of RAM in which nothing is reserved. */
static uint64_t find_memory(uint64_t size)
{
	FILE *f = fopen("/proc/iomem", "r");
	uint64_t at = 0, end = 0, from, to;
	char line[256];

	if (!f)
		fail("/proc/iomem");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		if (line[0] != ' ') {
			if (at && at + size <= end)
				break;
			at = strstr(line, "System RAM") ? (from + HUGE - 1) & ~(HUGE - 1) : 0;
			end = to + 1;
		} else if (at && strstr(line, "reserved") && at + size > from) {
			at = (to + HUGE) & ~(HUGE - 1);
		}
	}
	fclose(f);
	if (!at || at + size > end) {
		errno = ENOMEM;
		fail("free memory");
	}
	return at;
}

/* Offsets in 32-bit words of a flattened device tree's header, and the tokens of its structure. */
enum { FDT_TOTAL = 1, FDT_STRUCT, FDT_STRINGS, FDT_SIZE_STRINGS = 8, FDT_SIZE_STRUCT };
enum { FDT_BEGIN_NODE = 1, FDT_PROP = 3, FDT_END = 9 };

static uint32_t word(const char *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return be32toh(value);
}

static void set_word(char *p, uint32_t value)
{
	value = htobe32(value);
	memcpy(p, &value, sizeof(value));
}

/* The length word of the first property of that name; NULL: where the properties of /chosen begin. */
static char *find(char *tree, const char *property)
{
	char *p = tree + word(tree + 4 * FDT_STRUCT), *strings = tree + word(tree + 4 * FDT_STRINGS);

	for (;;) {
		uint32_t token = word(p);

		p += 4;
		if (token == FDT_BEGIN_NODE) {
			const char *name = p;

			p += (strlen(p) + 4) & ~3UL;
			if (!property && !strcmp(name, "chosen"))
				return p;
		} else if (token == FDT_PROP) {
			if (property && !strcmp(strings + word(p + 4), property))
				return p;
			p += 8 + ((word(p) + 3) & ~3UL);
		} else if (token == FDT_END) {
			errno = ENOENT;
			fail(property ? property : "/chosen");
		}
	}
}

static void replace_string(char *tree, const char *name, const char *value)
{
	char *p = find(tree, name);

	if (strlen(value) >= word(p)) {
		errno = E2BIG;
		fail(name);
	}
	memset(p + 8, 0, word(p));
	strcpy(p + 8, value);
}

/* Adds a 64-bit property to /chosen. The tree has room behind its end. */
static void add_chosen(char *tree, const char *name, uint64_t value)
{
	uint32_t total = word(tree + 4 * FDT_TOTAL), strings = word(tree + 4 * FDT_STRINGS);
	uint32_t size_strings = word(tree + 4 * FDT_SIZE_STRINGS);
	char *p = find(tree, NULL);

	memmove(p + 20, p, (size_t)(tree + total - p));
	set_word(p, FDT_PROP);
	set_word(p + 4, sizeof(value));
	set_word(p + 8, size_strings);
	value = htobe64(value);
	memcpy(p + 12, &value, sizeof(value));
	strings += 20;
	/* Nothing is of use behind the strings. */
	strcpy(tree + strings + size_strings, name);
	size_strings += (uint32_t)strlen(name) + 1;
	set_word(tree + 4 * FDT_STRINGS, strings);
	set_word(tree + 4 * FDT_SIZE_STRINGS, size_strings);
	set_word(tree + 4 * FDT_SIZE_STRUCT, word(tree + 4 * FDT_SIZE_STRUCT) + 20);
	set_word(tree + 4 * FDT_TOTAL, strings + size_strings);
}

static struct kexec_segment segment(const void *data, size_t size, uint64_t address)
{
	return (struct kexec_segment){
		.buf = (void *)data,
		.bufsz = size,
		.mem = (void *)address,
		.memsz = (size + PAGE - 1) & ~(PAGE - 1),
	};
}

int main(int argc, char **argv)
{
	struct kexec_segment segments[4];
	size_t kernel_size, initrd_size, tree_size;
	char *kernel, *initrd, *tree;
	uint64_t base, kernel_at, initrd_at, tree_at, stub_at;
	struct image_header header;

	if (argc != 4) {
		fprintf(stderr, "usage: kexec-jump IMAGE INITRD CMDLINE\n");
		return 2;
	}
	kernel = read_file(argv[1], &kernel_size);
	initrd = read_file(argv[2], &initrd_size);
	tree = read_file("/sys/firmware/fdt", &tree_size);
	tree = realloc(tree, tree_size += PAGE);
	if (!tree)
		fail("device tree");
	memcpy(&header, kernel, sizeof(header));

	base = find_memory(le64toh(header.image_size) + initrd_size + tree_size + 4 * HUGE);
	kernel_at = base + le64toh(header.text_offset);
	initrd_at = (kernel_at + le64toh(header.image_size) + HUGE) & ~(HUGE - 1);
	tree_at = (initrd_at + initrd_size + PAGE) & ~(PAGE - 1);
	stub_at = (tree_at + tree_size + PAGE) & ~(PAGE - 1);

	add_chosen(tree, "linux,initrd-start", initrd_at);
	add_chosen(tree, "linux,initrd-end", initrd_at + initrd_size);
	replace_string(tree, "bootargs", argv[3]);
	tree_size = word(tree + 4 * FDT_TOTAL);

	stub.kernel = kernel_at;
	stub.tree = tree_at;
	segments[0] = segment(kernel, kernel_size, kernel_at);
	segments[0].memsz = (le64toh(header.image_size) + PAGE - 1) & ~(PAGE - 1);
	segments[1] = segment(initrd, initrd_size, initrd_at);
	segments[2] = segment(tree, tree_size, tree_at);
	segments[3] = segment(&stub, sizeof(stub), stub_at);
	if (syscall(SYS_kexec_load, stub_at, 4UL, segments, (unsigned long)KEXEC_ARCH_AARCH64) < 0)
		fail("kexec_load");
	syscall(SYS_reboot, 0xfee1dead, 0x28121969, REBOOT_KEXEC, NULL);
	fail("reboot");
}
