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

/* Is it the peer's to name this VM at all? CLAIM_START: yes. */
static enum claim_outcome decide_identity(const struct claim *c)
{
	bool holds = c->live && c->token_given && c->token_matches && c->same_owner;

	if (c->not_the_opened)
		return CLAIM_REFUSED_OPENED;
	/* Who opened it was permitted this VM. And who runs it already, and comes back, is nobody new: what was said about
	 * the VM in the meantime does not orphan it. */
	if (c->opened || (holds && c->same_process))
		return CLAIM_START;
	if (c->announced && c->not_announced_uid)
		return CLAIM_REFUSED_ANNOUNCED_UID;
	if (c->announced && c->not_announced_label)
		return CLAIM_REFUSED_ANNOUNCED_LABEL;
	return c->denied ? CLAIM_REFUSED_RULE : CLAIM_START;
}

enum claim_outcome claim_decide(const struct claim *c)
{
	enum claim_outcome identity = decide_identity(c);

	if (identity != CLAIM_START)
		return identity;
	if (c->name_is_uuid)
		return CLAIM_REFUSED_NAME_IS_UUID;
	if (c->name_taken)
		return CLAIM_REFUSED_NAME_TAKEN;
	if (!c->uuid_known && !c->live && !c->stopped)
		return c->full ? CLAIM_REFUSED_FULL : CLAIM_START;
	/* The token alone does not do: one that leaked to another user is no claim. Who is vouched for is the new owner. */
	if (!c->same_owner && !c->opened && !(c->announced && c->announced_as))
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
		[CLAIM_REFUSED_OPENED] = {CPUPOLICY_ERROR_IDENTITY,
					  "This connection was opened for another VM, name or user."},
		[CLAIM_REFUSED_ANNOUNCED_UID] = {CPUPOLICY_ERROR_IDENTITY,
						 "The VM with this UUID is announced with another user."},
		[CLAIM_REFUSED_ANNOUNCED_LABEL] = {CPUPOLICY_ERROR_IDENTITY,
						   "The VM with this UUID is announced with another security label."},
		[CLAIM_REFUSED_RULE] = {CPUPOLICY_ERROR_IDENTITY,
					"The policy's rules do not let this process register this VM."},
	};

	if ((unsigned)outcome >= sizeof(refusals) / sizeof(refusals[0])) {
		*ret_code = CPUPOLICY_ERROR_PROTOCOL;
		return "The registration is not understood.";
	}
	*ret_code = refusals[outcome].code;
	return refusals[outcome].sentence;
}
