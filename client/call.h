/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_CALL_H
#define CPUCTL_CALL_H

/* Commands that are one call of the manager's, and say nothing when it succeeded. */

#include "client/options.h"

/* `what` could not be done is the beginning of the error ("cannot forget"); with the VM's name if one is given. The
 * rest as sd_bus_call_method() has it. Waits as long as it takes. Returns an enum outcome. */
int call_manager(const struct options *options, const char *what, const char *member, const char *signature, ...);

#endif
