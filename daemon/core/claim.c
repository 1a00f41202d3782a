/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/claim.h"

#include <stddef.h>

#include "proto/cpupolicy-proto.h"

/* A VM that runs belongs to whoever holds its token, and what it is does not change while it does. */
static enum claim_outcome decide_live(const struct claim *c)
{
	if (!c->token_given || !c->token_matches)
		return CLAIM_REFUSED_LIVE;
	if (c->name_differs)
		return CLAIM_REFUSED_NAME_DIFFERS;
	if (c->possible_differs)
		return CLAIM_REFUSED_POSSIBLE;
	if (!c->incoming)
		return CLAIM_RESUME;
	return c->incoming_taken ? CLAIM_REFUSED_INCOMING : CLAIM_INCOMING;
}

enum claim_outcome claim_decide(const struct claim *c)
{
	if (c->name_is_uuid)
		return CLAIM_REFUSED_NAME_IS_UUID;
	if (c->name_taken)
		return CLAIM_REFUSED_NAME_TAKEN;
	if (!c->uuid_known && !c->live && !c->stopped)
		return c->full ? CLAIM_REFUSED_FULL : CLAIM_START;
	/* The token alone does not do: one that leaked to another user is no claim. */
	if (!c->same_owner)
		return CLAIM_REFUSED_OWNER;
	if (c->live)
		return decide_live(c);
	/* Stopped: a new life, under another name or of another size if its owner says so. A token is of the old one. */
	return CLAIM_START;
}

const char *claim_refusal(enum claim_outcome outcome, uint32_t *ret_code)
{
	static const struct {
		uint32_t code;
		const char *sentence;
	} refusals[] = {
		[CLAIM_START] = {0, NULL},
		[CLAIM_RESUME] = {0, NULL},
		[CLAIM_INCOMING] = {0, NULL},
		[CLAIM_REFUSED_NAME_TAKEN] = {CPUPOLICY_ERROR_IDENTITY, "Another VM has this name."},
		[CLAIM_REFUSED_NAME_IS_UUID] = {CPUPOLICY_ERROR_IDENTITY, "A VM's name must not look like a UUID."},
		[CLAIM_REFUSED_LIVE] = {CPUPOLICY_ERROR_IDENTITY,
					"A VM with this UUID is running, and its session token was not shown."},
		[CLAIM_REFUSED_OWNER] = {CPUPOLICY_ERROR_IDENTITY, "The VM with this UUID belongs to another user."},
		[CLAIM_REFUSED_POSSIBLE] = {CPUPOLICY_ERROR_IDENTITY,
					    "The VM with this UUID is running with another number of possible vCPUs."},
		[CLAIM_REFUSED_INCOMING] = {CPUPOLICY_ERROR_BUSY,
					    "Another migration target of this VM has joined already."},
		[CLAIM_REFUSED_FULL] = {CPUPOLICY_ERROR_LIMIT, "The daemon has as many VMs on record as it may have."},
		[CLAIM_REFUSED_NAME_DIFFERS] = {CPUPOLICY_ERROR_IDENTITY,
						"The VM with this UUID is running under another name."},
	};

	if ((unsigned)outcome >= sizeof(refusals) / sizeof(refusals[0])) {
		*ret_code = CPUPOLICY_ERROR_PROTOCOL;
		return "The registration is not understood.";
	}
	*ret_code = refusals[outcome].code;
	return refusals[outcome].sentence;
}
