/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_OUTPUT_H
#define CPUCTL_OUTPUT_H

/* What commands print alike. */

#include <jansson.h>
#include <stdint.h>

/* Prints a document that is the whole output, or one line of many; takes `json` over (NULL: out of memory). 0, or an enum
 * outcome. */
int output_json(json_t *json);
int output_json_line(json_t *json);

/* "root", "libvirt-qemu", or the number. Valid until the next call. */
const char *output_user(uint32_t uid);
/* What the terminal or file did not take is an error as well. 0, or an enum outcome. */
int output_finish(void);

#endif
