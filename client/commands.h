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
int command_open_vmm(const struct options *options);

int command_assign(const struct options *options);
int command_explain(const struct options *options);
int command_export(const struct options *options);
int command_import(const struct options *options);

int command_top(const struct options *options);
int command_providers(const struct options *options);
int command_host(const struct options *options);
int command_classes(const struct options *options);
int command_tenants(const struct options *options);
int command_usage(const struct options *options);
int command_simulate(const struct options *options);

int command_freeze(const struct options *options);
int command_thaw(const struct options *options);
int command_drain(const struct options *options);
int command_undrain(const struct options *options);
int command_reload(const struct options *options);
int command_backup(const struct options *options);

int command_domain(const struct options *options);
/* "domain" and what follows it, of an argument list that ends with NULL. Returns if it could not be run. */
int command_domain_arguments(char **argv);

#endif
