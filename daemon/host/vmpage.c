/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The memfd is mode 0600 and of the daemon's user, so that a VMM of another user cannot open it again for writing by
 * its /proc/PID/fd; what the VMM is given is a second, read-only description of the same file. It is sealed against a
 * change of size (a reader must never meet SIGBUS) and not against writing: a successor of this process must be able to
 * map it writable.
 */

#include "daemon/host/vmpage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "daemon/base/util.h"
#include "proto/page.h"

struct vmpage {
	struct cpupolicy_page *page;
	uint32_t size;
	int memfd;    /* writable; -1: taken */
	int page_fd;  /* for the VMM; -1: taken */
	int bell_fd;  /* ours */
	int guest_fd; /* the VMM's end of the doorbell; -1: taken */
};

static uint32_t round_up(size_t size)
{
	size_t unit = (size_t)sysconf(_SC_PAGESIZE);

	return (uint32_t)((size + unit - 1) / unit * unit);
}

static int make_file(int *ret, uint32_t size)
{
	_cleanup_close_ int fd = memfd_create("cpupolicy-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600) < 0)
		return -errno;
	if (ftruncate(fd, size) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	*ret = take_fd(&fd);
	return 0;
}

static int open_read_only(int *ret, int fd)
{
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = open(path, O_RDONLY | O_CLOEXEC);
	if (r < 0)
		return -errno;
	*ret = r;
	return 0;
}

static int map_file(struct vmpage *p, int fd)
{
	void *map = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	p->page = map;
	return 0;
}

static int make_page(struct vmpage *p)
{
	_cleanup_close_ int fd = -1;
	int r;

	r = make_file(&fd, p->size);
	if (r < 0)
		return r;
	r = open_read_only(&p->page_fd, fd);
	if (r < 0)
		return r;
	r = map_file(p, fd);
	if (r < 0)
		return r;
	p->memfd = take_fd(&fd);
	return 0;
}

static int make_doorbell(struct vmpage *p)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	p->bell_fd = fds[0];
	p->guest_fd = fds[1];
	return 0;
}

static struct vmpage *new_page(uint32_t vcpus)
{
	struct vmpage *p = malloc(sizeof(*p));

	if (p)
		*p = (struct vmpage){
			.size = round_up(cpupolicy_page_bytes(vcpus)),
			.memfd = -1,
			.page_fd = -1,
			.bell_fd = -1,
			.guest_fd = -1,
		};
	return p;
}

int vmpage_new(struct vmpage **ret, uint32_t vcpus, uint32_t ask_timeout_ms)
{
	struct vmpage *p;
	int r;

	if (vcpus < 1 || vcpus > CPUPOLICY_MAX_VCPUS)
		return -EINVAL;
	p = new_page(vcpus);
	if (!p)
		return -ENOMEM;
	r = make_page(p);
	if (r == 0)
		r = make_doorbell(p);
	if (r < 0) {
		vmpage_free(p);
		return r;
	}
	cpupolicy_page_init(p->page, vcpus, ask_timeout_ms);
	*ret = p;
	return 0;
}

int vmpage_adopt(struct vmpage **ret, uint32_t vcpus, int memfd, int bell_fd)
{
	struct vmpage *p = new_page(vcpus);
	struct stat st;
	int r;

	if (!p)
		return -ENOMEM;
	r = fstat(memfd, &st) < 0 ? -errno : st.st_size == (off_t)p->size ? 0 : -EPROTO;
	if (r == 0)
		r = map_file(p, memfd);
	if (r == 0)
		r = cpupolicy_page_check(p->page, p->size, vcpus);
	if (r < 0) {
		vmpage_free(p);
		return r;
	}
	p->memfd = memfd;
	p->bell_fd = bell_fd;
	*ret = p;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

struct vmpage *vmpage_free(struct vmpage *page)
{
	if (!page)
		return NULL;
	if (page->page)
		munmap(page->page, page->size);
	close_fd(page->memfd);
	close_fd(page->page_fd);
	close_fd(page->bell_fd);
	close_fd(page->guest_fd);
	free(page);
	return NULL;
}

int vmpage_take_descriptors(struct vmpage *page, int *ret_page_fd, int *ret_doorbell_fd)
{
	if (page->page_fd < 0 || page->guest_fd < 0)
		return -EALREADY;
	*ret_page_fd = take_fd(&page->page_fd);
	*ret_doorbell_fd = take_fd(&page->guest_fd);
	return 0;
}

int vmpage_take_memfd(struct vmpage *page)
{
	return take_fd(&page->memfd);
}

int vmpage_bell(const struct vmpage *page)
{
	return page->bell_fd;
}

uint32_t vmpage_size(const struct vmpage *page)
{
	return page->size;
}

void vmpage_set_word(struct vmpage *page, uint32_t vcpu, uint64_t word)
{
	cpupolicy_page_store_word(page->page, vcpu, word);
}

void vmpage_publish(struct vmpage *page, uint32_t epoch, uint32_t generation)
{
	cpupolicy_page_store_head(page->page, cpupolicy_page_make_head(epoch, generation));
}

bool vmpage_says(const struct vmpage *page, uint32_t vcpu, uint64_t word)
{
	return cpupolicy_page_load_word(page->page, vcpu) == word;
}

void vmpage_ring(struct vmpage *page)
{
	/* A full doorbell is ringing already; one whose other end is closed belongs to a VMM that is about to be hung
	 * up. */
	ssize_t n = send(page->bell_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)n;
}
