/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_POWERLOSS_H
#define TESTS_POWERLOSS_H

/*
 * A disk that loses power, as an SQLite VFS over the real one. It remembers of each file what was there at its last sync, and
 * what was written since. When power is lost, what was written since is dropped, kept or torn, each 512-byte sector by
 * chance; a file that was never synced may be gone; one that was deleted without a sync of its directory may be back. Shared
 * memory is lost.
 *
 * The moment is a number of writes and syncs from now. What happens after it happens to no avail: the program goes on, and
 * finds out when it looks at the disk again.
 */

#include <stdbool.h>
#include <stdint.h>

/* Makes it the default VFS. `seed` decides all chance. */
void powerloss_install(uint64_t seed);
/* Power goes after so many more operations, if there are as many; `fn` runs then, on whatever thread it is. */
void powerloss_after(unsigned operations, void (*fn)(void));
/* Has gone. If it has not it goes now, and `fn` runs. */
bool powerloss_is_lost(void);
void powerloss_now(void);
/* Nobody has a file open: the files of `directory` become what is left of them, and power is back. */
void powerloss_restore(const char *directory);
/* A disk that says that it synced, and did not. */
void powerloss_lie(bool lie);
/* Operations so far, power on or not. */
unsigned powerloss_operations(void);
uint64_t powerloss_random(uint64_t below);

#endif
