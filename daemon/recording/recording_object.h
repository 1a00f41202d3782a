/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_RECORDING_OBJECT_H
#define CPUPOLICYD_RECORDING_OBJECT_H

/* The values that lines of a recording have, as readers of rows: see json_table.h. */

#include "daemon/settings/json_table.h"
#include "daemon/recording/recording.h"

#define RECORDING_HEX_MAX ((CPUPOLICY_MAX_VCPUS + 7) / 8)

struct recording_hex {
	uint8_t bytes[RECORDING_HEX_MAX];
	size_t size;
};

struct recording_vcpus {
	struct cpupolicy_vcpu *vcpus;
	uint32_t n;
};

struct recording_record {
	bool given;
	bool alive;
	struct store_vm vm;
	struct vm_handover handover;
	struct recording_hex enabled, wanted;
};

/* A UUID of 16 bytes. */
int recording_read_uuid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* As json_read_text(); null leaves it NULL. */
int recording_read_text_or_null(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* struct recording_hex, of any size up to its room. */
int recording_read_hex(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* struct recording_vcpus: the caller frees what is there, after failure too. */
int recording_read_vcpus(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* Into a struct recording_line: sources. */
int recording_read_policy(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* struct recording_state; `of_vm` says which of the two kinds it is. */
int recording_read_state(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* struct recording_record: the caller frees handover.vcpus, after failure too. */
int recording_read_record(struct json_reader *reader, const struct json_row *row, json_t *value, void *to);
/* Of struct recording_answer. */
extern const struct json_row recording_answer_rows[];

/* Checks of texts: a name of a VM, class or tenant; anything. */
const char *recording_check_name(const char *text);
const char *recording_check_any(const char *text);

#endif
