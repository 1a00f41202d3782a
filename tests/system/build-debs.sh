#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds the Debian packages of this tree and prints the directory that holds them as its last line. They are kept under a
# name made of the hash of what they are made from; the tests are not part of that, and not run here.

set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/lib/build.sh
. "$top/tests/lib/build.sh"

package_files() {
	source_files | grep -zvE '^(tests/|\.ci/|check$|demo$)'
}

build_debs() {
	local key
	key=$(package_files | (cd "$top" && xargs -0 sha256sum) | sha256sum | cut -c1-16)
	debs=$cache/debs-$key
	if [ ! -e "$debs/.complete" ]; then
		say "building the Debian packages, about half a minute" >&2
		rm -rf "$debs"
		mkdir -p "$debs/source"
		source_files | (cd "$top" && cpio --quiet -0pdm "$debs/source")
		(cd "$debs/source" && DEB_BUILD_PROFILES=nocheck DEB_BUILD_OPTIONS="nocheck terse parallel=$(nproc)" \
			dpkg-buildpackage -us -uc -b) >"$debs/log" 2>&1 || {
			tail -n 60 "$debs/log" >&2
			return 1
		}
		rm -rf "$debs/source"
		touch "$debs/.complete"
	fi
	touch "$debs"
	prune 'debs-*' 4
}

# a lock of its own: other builds need not wait for it
mkdir -p "$cache"
exec 9>"$cache/debs.lock"
flock 9
build_debs
echo "$debs"
