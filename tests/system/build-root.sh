#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Makes the root file system that the system tests boot (Debian 12, systemd as its PID 1), and prints its directory as its
# last line. Nothing of ours is in it: the tests install our packages, each into a copy of its own.
#
# It comes from the archive that the machine itself uses, and is kept under a name made of the hash of this file.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=qemu-glue/debian-suite.sh
. "$here/../../qemu-glue/debian-suite.sh"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpupolicyd

suite=bookworm
packages=(
	# what boots; systemd-container has machined, which knows machines by their scopes
	systemd systemd-sysv systemd-container libpam-systemd dbus polkitd udev
	# what the tests' own programs need
	procps python3
	# what our packages depend on
	libevent-core-2.1-7 libevent-extra-2.1-7 libjansson4 libsqlite3-0 libsystemd0 libvirt0
	# what QEMU needs, which comes from the machine
	libfdt1 libglib2.0-0 libseccomp2 zlib1g
)

say() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
}

key=$(sha256sum "$here/build-root.sh" | cut -c1-16)
out=$cache/root-$key
if [ -e "$out.complete" ]; then
	echo "$out"
	exit 0
fi
[ "$(id -u)" = 0 ] || {
	say "only root can make a root file system"
	exit 1
}

mkdir -p "$cache"
exec 9>"$cache/root.lock"
flock 9
if [ -e "$out.complete" ]; then
	echo "$out"
	exit 0
fi

archive=$(debian_archive)
[ -n "$archive" ] || {
	say "no Debian archive in this machine's apt sources"
	exit 1
}
options=(--variant=minbase "--include=$(IFS=, && echo "${packages[*]}")")
keyring=${archive#*$'\t'}
[ -z "$keyring" ] || options+=("--keyring=$keyring")

say "making a root file system of $suite (a minute or two)"
rm -rf "$out"
log=$cache/root-$key.log
debootstrap "${options[@]}" "$suite" "$out" "${archive%%$'\t'*}" >"$log" 2>&1 || {
	tail -n 30 "$log" >&2
	exit 1
}
rm -rf "$out"/var/cache/apt/archives/*.deb "$out"/var/lib/apt/lists/* "$out/etc/apt/sources.list" "$log"
# each machine that boots makes its own
: >"$out/etc/machine-id"
touch "$out.complete"

# Those of other versions of the tree may be in use: the newest two stay.
find "$cache" -maxdepth 1 -type f -name 'root-*.complete' -printf '%T@ %p\n' | sort -rn | tail -n +3 |
	cut -d' ' -f2- | while IFS= read -r old; do rm -rf "$old" "${old%.complete}"; done
say "done"
echo "$out"
