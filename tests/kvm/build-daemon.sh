#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds the daemon and its client for arm64, and prints the build directory as its last line.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=tests/lib/build.sh
. "$top/tests/lib/build.sh"

host=$("$here/build-host.sh" | tail -n 1)
mapfile -t arguments <"$host/configure"
prepare_source >&2
build arm64 --enable-werror --disable-tests "${arguments[@]}" >&2
echo "$build"
