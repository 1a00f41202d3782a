/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_UTIL_H
#define CPUPOLICYD_UTIL_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000ull

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* `_cleanup_(f) T x`: f(&x) runs when x goes out of scope. */
#define _cleanup_(f)    __attribute__((cleanup(f)))
#define _cleanup_free_  _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/* Defines the function that _cleanup_ wants from a free function that accepts NULL. */
#define DEFINE_CLEANUP(type, free_fn)                                                                                  \
	static inline void free_fn##p(type *p)                                                                         \
	{                                                                                                              \
		if (*p)                                                                                                \
			free_fn(*p);                                                                                   \
	}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

/* The value, with the variable left empty: ownership passes. */
#define TAKE(p)                                                                                                        \
	({                                                                                                             \
		__typeof__(p) *take_p_ = &(p);                                                                         \
		__typeof__(p) take_v_ = *take_p_;                                                                      \
		*take_p_ = NULL;                                                                                       \
		take_v_;                                                                                               \
	})

static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

#endif
