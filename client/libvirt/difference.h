/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_DIFFERENCE_H
#define CPUPOLICY_LIBVIRT_DIFFERENCE_H

/* Shows what changes between two texts, by diff(1), on standard output. Negative errno: it could not be shown. */
int difference_print(const char *before, const char *after);

#endif
