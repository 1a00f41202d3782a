/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_HANDOVER_CORE_H
#define CPUPOLICYD_HANDOVER_CORE_H

/* What core/vm_handover.h hands over, as an object of JSON: in a handover, and in a recording of one. Pure. */

#include "daemon/core/vm_handover.h"
#include "daemon/settings/json_table.h"

/* As snprintf(): the bytes that it takes, of which at most `room` are written, a NUL included. */
size_t handover_core_print(char *buffer, size_t room, const struct vm_handover *handover);
/* Into a struct vm_handover, whose vcpus the caller frees, after failure too. */
int handover_core_read(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* The same of a struct rate, and of an object of that. */
int handover_core_read_rate(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);

#endif
