/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_COMMANDS_H
#define CPUCTL_COMMANDS_H

/* The commands: each runs what the options say and returns an enum outcome; errors have been printed by then. */

#include "client/options.h"

int command_list(const struct options *options);
int command_show(const struct options *options);
int command_set(const struct options *options);
int command_watch(const struct options *options);
int command_forget(const struct options *options);

#endif
