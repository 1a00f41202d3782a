# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Sourced by the scripts that take Debian's arm64 packages apart: through the machine's own package
# source, with lists and cache of their own, so that nothing of the system changes.

: "${tmp:?the caller sets it to a directory that it removes}"
# shellcheck source=qemu-glue/debian-suite.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../qemu-glue/debian-suite.sh"

say() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
}

# need TOOL...: ends the script where one is missing
need() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || {
			say "$tool is missing; tests/deps.sh installs what is needed"
			exit 1
		}
	done
}

# apt_in SUITE COMMAND...: apt with that suite's arm64 packages and nothing else
apt_in() {
	local suite=$1 dir=$tmp/apt-$1
	shift
	if [ ! -d "$dir" ]; then
		mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
		: >"$dir/status"
		debian_source deb "$suite" >"$dir/debian.sources"
		say "reading the package lists of $suite (arm64)"
		apt_in "$suite" apt-get -qq update >&2
	fi
	local program=$1
	shift
	# _apt cannot enter a private directory: downloads run as the caller
	"$program" -o Dir::Etc::sourcelist="$dir/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State="$dir" -o Dir::State::lists="$dir/lists" -o Dir::State::status="$dir/status" \
		-o Dir::Cache="$dir/cache" -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
		-o APT::Sandbox::User=root -o Acquire::Languages=none -o APT::Install-Recommends=false \
		"$@"
}

# unpack SUITE PACKAGE: into $tmp/root-PACKAGE
unpack() {
	say "getting $2 from $1"
	mkdir -p "$tmp/debs-$2"
	(cd "$tmp/debs-$2" && apt_in "$1" apt-get -qq download "$2" >&2)
	dpkg -x "$tmp/debs-$2/"*.deb "$tmp/root-$2"
	rm -rf "$tmp/debs-$2"
}

# unpack_all SUITE DIRECTORY PACKAGE...: these and all that they depend on, into one directory
unpack_all() {
	local suite=$1 into=$2 deb
	shift 2
	say "getting $* from $suite, and what they depend on"
	apt_in "$suite" apt-get -qq -y --download-only install "$@" >&2
	mkdir -p "$into"
	for deb in "$tmp/apt-$suite/cache/archives/"*.deb; do
		dpkg -x "$deb" "$into"
	done
	rm -f "$tmp/apt-$suite/cache/archives/"*.deb
}

# kernel_package SUITE: the package that linux-image-arm64 of that suite depends on
kernel_package() {
	local package
	package=$(apt_in "$1" apt-cache depends linux-image-arm64 |
		sed -nE 's/^ *Depends: (linux-image-[0-9].*)/\1/p' | head -n 1)
	[ -n "$package" ] || {
		say "linux-image-arm64 of $1 names no kernel"
		exit 1
	}
	printf '%s\n' "$package"
}
