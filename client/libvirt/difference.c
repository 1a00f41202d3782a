/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/difference.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "daemon/base/util.h"

static int to_file(const char *text, int *ret)
{
	_cleanup_close_ int fd = memfd_create("domain", 0); /* diff inherits it */
	size_t length = strlen(text);

	if (fd < 0)
		return -errno;
	while (length > 0) {
		ssize_t n = write(fd, text, length);

		if (n < 0)
			return -errno;
		text += n;
		length -= (size_t)n;
	}
	*ret = take_fd(&fd);
	return 0;
}

static int run_diff(int before, int after)
{
	char a[32], b[32];
	int status;
	pid_t pid;

	snprintf(a, sizeof(a), "/dev/fd/%d", before);
	snprintf(b, sizeof(b), "/dev/fd/%d", after);
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execlp("diff", "diff", "-u", "--label", "now", "--label", "then", a, b, (char *)NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	/* 1: they differ */
	return WIFEXITED(status) && WEXITSTATUS(status) <= 1 ? 0 : -ENOENT;
}

int difference_print(const char *before, const char *after)
{
	_cleanup_close_ int a = -1, b = -1;
	int r = to_file(before, &a);

	if (r >= 0)
		r = to_file(after, &b);
	return r < 0 ? r : run_diff(a, b);
}
