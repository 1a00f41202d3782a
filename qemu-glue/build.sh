#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds QEMU from Debian's source package: extended with this folder's files and patch, or stock for comparison.
#
#   build.sh            the extended QEMU, for this machine: emulation (TCG)
#   build.sh --kvm      the same for an arm64 host with KVM: cross-built, static, KVM alone
#   build.sh --stock    the same source without our files; also --kvm --stock
#   build.sh --series X of QEMU X instead of the first in the list below; with any of the above
#
# The last line on stdout is the path of qemu-system-aarch64 (qemu-img is beside the one for this machine); everything else
# goes to stderr.
# Needs the package registry that the machine itself uses, once. As root it installs what is missing for the build.
#
# Cache, below ${XDG_CACHE_HOME:-~/.cache}/cpupolicyd/qemu:
#   <variant>-<key>/    a finished build, named by a hash of all that it is made from; appears whole or not at all
#   <version>/tree      the source; our files are laid over it, or taken away, file by file and only where they differ,
#   <version>/build     so that one build tree serves both variants and a change of one file rebuilds that file
#   <version>/build-kvm the same for --kvm
#   <version>/pristine  the originals of the files that our patch changes
#   sysroot-arm64       libraries to link with for --kvm, from Debian's arm64 packages

set -euo pipefail

# Which there are patches for, and the Debian suite that has the source. The first one is what is built unless told otherwise.
readonly SERIES=(10.0 10.2)
declare -rA SUITES=([10.0]=trixie [10.2]=sid)
readonly MESON_MIN=1.5
# Exit status: the archive does not give the source.
readonly NO_SOURCE=77
# Of each variant; the newest ones. Older builds may still be running somewhere.
readonly KEEP=5

readonly CROSS=aarch64-linux-gnu-

readonly COMMON_OPTIONS=(
	--target-list=aarch64-softmmu
	--without-default-features
	--without-default-devices
	--with-devices-aarch64=cpupolicy
	--enable-fdt=system
	--enable-seccomp
	--disable-docs
	--disable-guest-agent
	--disable-install-blobs
	--disable-debug-info
	--python=/usr/bin/python3
)
readonly TCG_OPTIONS=(--enable-tcg --enable-tools)
# Static: it is copied to hosts, and into images, that have none of its libraries.
readonly KVM_OPTIONS=(--cross-prefix="$CROSS" --enable-kvm --disable-tcg --static --disable-tools)

readonly PACKAGES=(
	bison
	dpkg-dev
	flex
	gcc
	libc6-dev
	libfdt-dev
	libglib2.0-dev
	libseccomp-dev
	make
	ninja-build
	patch
	pkg-config
	python3
	python3-venv
	xz-utils
	zlib1g-dev
)
readonly KVM_PACKAGES=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
# Unpacked, not installed: not all of them can be there for two architectures at once.
readonly SYSROOT_PACKAGES=(libfdt-dev libglib2.0-dev libpcre2-dev libseccomp-dev zlib1g-dev)

glue=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly glue
# shellcheck source=qemu-glue/debian-suite.sh
. "$glue/debian-suite.sh"
readonly proto=$glue/../proto
readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpupolicyd/qemu
readonly sysroot=$cache/sysroot-arm64

say()
{
	printf '%s\n' "qemu: $*" >&2
}

die()
{
	say "$@"
	exit 1
}

# ---- packages ----

codename()
{
	# shellcheck source=/dev/null
	. /etc/os-release
	printf '%s\n' "${VERSION_CODENAME-}"
}

# Lists of its own, so that nothing of the system is touched: sets apt_options. with_suite TYPES SUITE[/ARCHITECTURE]
with_suite()
{
	local suite=${2%/*} state=$cache/apt/$1-${2/\//-}

	mkdir -p "$state/parts" "$state/lists/partial" "$state/archives/partial"
	debian_source "$1" "$suite" >"$state/parts/debian.sources"
	apt_options=(
		-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$state/parts"
		-o Dir::State::Lists="$state/lists" -o Dir::Cache="$state" -o Dir::Cache::Archives="$state/archives"
		-o APT::Sandbox::User=root
	)
	[ "$suite" = "$2" ] || apt_options+=(-o APT::Architecture="${2#*/}" -o APT::Architectures::="${2#*/}")
}

# suite_apt TYPES SUITE[/ARCHITECTURE] ARGUMENTS...
suite_apt()
{
	local apt_options

	with_suite "$1" "$2"
	shift 2
	apt-get -qq "${apt_options[@]}" "$@" >&2
}

suite_apt_cache()
{
	local apt_options

	with_suite "$1" "$2"
	shift 2
	apt-cache "${apt_options[@]}" "$@"
}

install_packages()
{
	local missing=() p

	for p in "${PACKAGES[@]}" "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" -eq 0 ] || die "these packages are missing: ${missing[*]}"
	say "installing ${missing[*]}"
	apt-get -qq update >&2
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >&2
}

version_at_least()
{
	printf '%s\n%s\n' "$2" "$1" | sort -C -V
}

# Sets PYTHONPATH to a meson that is new enough, unless the system's is.
find_meson()
{
	local have

	if have=$(meson --version 2>/dev/null) && version_at_least "$have" "$MESON_MIN"; then
		return
	fi
	if [ "$(codename)" != bookworm ]; then
		install_packages meson
		return
	fi
	if ! [ -d "$cache/meson" ]; then
		say "fetching meson from bookworm-backports"
		rm -rf "$cache/meson.new"
		mkdir -p "$cache/meson.new"
		suite_apt deb bookworm-backports update
		(cd "$cache/meson.new" && suite_apt deb bookworm-backports download meson)
		dpkg -x "$cache"/meson.new/meson_*.deb "$cache/meson.new"
		rm "$cache"/meson.new/meson_*.deb
		mv "$cache/meson.new" "$cache/meson"
	fi
	export PYTHONPATH=$cache/meson/usr/lib/python3/dist-packages
}

# The arm64 libraries that a QEMU for KVM hosts is linked with. Sets what pkg-config needs to find them.
find_sysroot()
{
	local suite deb

	suite=$(codename)/arm64
	if [ "$(cat "$sysroot/packages" 2>/dev/null)" != "$suite ${SYSROOT_PACKAGES[*]}" ]; then
		say "fetching arm64 libraries from ${suite%/*}"
		rm -rf "$sysroot.new"
		mkdir -p "$sysroot.new/debs"
		suite_apt deb "$suite" update
		(cd "$sysroot.new/debs" && suite_apt deb "$suite" download "${SYSROOT_PACKAGES[@]}")
		for deb in "$sysroot.new"/debs/*.deb; do
			dpkg -x "$deb" "$sysroot.new"
		done
		rm -rf "$sysroot.new/debs" "$sysroot"
		printf '%s\n' "$suite ${SYSROOT_PACKAGES[*]}" >"$sysroot.new/packages"
		mv "$sysroot.new" "$sysroot"
	fi
	export PKG_CONFIG=pkg-config PKG_CONFIG_SYSROOT_DIR=$sysroot
	export PKG_CONFIG_LIBDIR=$sysroot/usr/lib/aarch64-linux-gnu/pkgconfig:$sysroot/usr/share/pkgconfig
}

# ---- source ----

# The version that the cache holds, or nothing.
cached_version()
{
	[ ! -e "$cache/source-$series" ] || cat "$cache/source-$series"
}

# The newest version of the series that the suite has: an older one may be kept beside the newest of all.
newest_version()
{
	suite_apt deb-src "$suite" update
	suite_apt_cache deb-src "$suite" showsrc --only-source qemu | sed -n 's/^Version: //p' |
		grep -E "^([0-9]+:)?${series//./[.]}[.]" | sort -V | tail -n 1
}

fetch_source()
{
	local new=$cache/source.new-$series version

	say "fetching the source of QEMU $series"
	rm -rf "$new"
	mkdir -p "$new"
	if ! version=$(newest_version) || ! (cd "$new" && suite_apt deb-src "$suite" source --download-only "qemu=$version"); then
		say "Debian's suite $suite does not give the source of QEMU $series"
		exit "$NO_SOURCE"
	fi
	version=${version#*:}

	say "unpacking QEMU $version"
	# With Debian's patches: the firmware images are stripped, and without the patches configure misses them.
	dpkg-source --no-check -x "$new"/qemu_*.dsc "$new/tree" >"$new/log" 2>&1 ||
		die "cannot unpack: $(tail -n 3 "$new/log")"
	rm -rf "${cache:?}/${version%%+*}"
	mkdir -p "$cache/${version%%+*}"
	mv "$new/tree" "$cache/${version%%+*}/tree"
	rm -rf "$new"
	printf '%s\n' "$version" >"$cache/source-$series.new"
	mv "$cache/source-$series.new" "$cache/source-$series"
}

# ---- our files over the source ----

patched_files()
{
	sed -n 's/^+++ b\///p' "$glue/patches/$series"/*.patch | sort -u
}

# Everything of ours that goes into the tree, as it lies there. stage_overlay WORK STAGE
stage_overlay()
{
	local work=$1 stage=$2 file p

	while read -r file; do
		[ -e "$work/tree/$file" ] || die "the patch changes $file, which this source does not have"
		if ! [ -e "$work/pristine/$file" ]; then
			mkdir -p "$work/pristine/$(dirname "$file")"
			cp "$work/tree/$file" "$work/pristine/$file.new"
			mv "$work/pristine/$file.new" "$work/pristine/$file"
		fi
		mkdir -p "$stage/$(dirname "$file")"
		cp "$work/pristine/$file" "$stage/$file"
	done < <(patched_files)
	for p in "$glue/patches/$series"/*.patch; do
		patch -s -p1 -d "$stage" --no-backup-if-mismatch <"$p" >&2 || die "$p does not apply"
	done

	mkdir -p "$stage/hw/cpupolicy/proto" "$stage/qapi"
	cp "$glue"/hw/*.[ch] "$glue/hw/meson.build" "$stage/hw/cpupolicy/"
	cp "$proto"/*.[ch] "$stage/hw/cpupolicy/proto/"
	cp "$glue"/qapi/*.json "$stage/qapi/"
	{
		echo "cpu_policy_files += files("
		(cd "$proto" && printf "  '%s',\n" *.c)
		echo ")"
	} >"$stage/hw/cpupolicy/proto/meson.build"
}

# Makes the tree what the stage says, touching only what differs: ninja goes by the files' times.
lay_overlay()
{
	local work=$1 stage=$2 file

	(cd "$stage" && find . -type f -printf '%P\n' | sort) >"$work/overlay.new"
	touch "$work/overlay"
	while read -r file; do
		[ -e "$stage/$file" ] || [ -z "$file" ] || if [ -e "$work/pristine/$file" ]; then
			cp "$work/pristine/$file" "$work/tree/$file"
		else
			rm -f "$work/tree/$file"
		fi
	done <"$work/overlay"
	# From here on until the end of the loop the tree holds files of both; none is forgotten if this is interrupted.
	sort -u "$work/overlay" "$work/overlay.new" >"$work/overlay.both"
	mv "$work/overlay.both" "$work/overlay"
	while read -r file; do
		if ! cmp -s "$stage/$file" "$work/tree/$file"; then
			mkdir -p "$work/tree/$(dirname "$file")"
			cp "$stage/$file" "$work/tree/$file"
		fi
	done <"$work/overlay.new"
	mv "$work/overlay.new" "$work/overlay"
}

# ---- build ----

# with_progress LOG COMMAND...: says every few seconds where ninja is.
with_progress()
{
	local log=$1 pid at last='' r=0

	shift
	"$@" >"$log" 2>&1 9>&- &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		at=$(tail -c 4096 "$log" | grep -o '^\[[0-9]*/[0-9]*\]' | tail -n 1 || true)
		if [ -n "$at" ] && [ "$at" != "$last" ] && [ $((SECONDS % 5)) -eq 0 ]; then
			say "compiling $at"
			last=$at
		fi
	done
	wait "$pid" || r=$?
	[ $r -eq 0 ] || grep -A 30 -m 3 -E '^FAILED|error:' "$log" >&2 || tail -n 30 "$log" >&2
	return $r
}

configure_once()
{
	local work=$1

	if [ -e "$work/$build_dir/build.ninja" ] &&
		[ "$(cat "$work/$build_dir/options" 2>/dev/null)" = "${options[*]}" ]; then
		return
	fi
	say "configuring"
	rm -rf "${work:?}/$build_dir"
	mkdir -p "$work/$build_dir"
	(cd "$work/$build_dir" && ../tree/configure "${options[@]}") >"$work/configure.log" 2>&1 9>&- ||
		die "configure failed: $(tail -n 20 "$work/configure.log")"
	printf '%s\n' "${options[*]}" >"$work/$build_dir/options"
}

build()
{
	local variant=$1 work=$2 stage

	stage=$(mktemp -d "$work/stage.XXXXXX")
	mkdir -p "$stage/configs/devices/aarch64-softmmu"
	cp "$glue/devices.mak" "$stage/configs/devices/aarch64-softmmu/cpupolicy.mak"
	case $variant in
	*stock) ;;
	*) stage_overlay "$work" "$stage" ;;
	esac
	lay_overlay "$work" "$stage"
	rm -rf "$stage"
	configure_once "$work"
	say "compiling ($variant)"
	with_progress "$work/ninja-$variant.log" ninja -C "$work/$build_dir" -j "$(nproc)" "${programs[@]}" ||
		die "the build failed; all of it is in $work/ninja-$variant.log"
}

publish()
{
	local variant=$1 work=$2 out=$3 new program

	new=$(mktemp -d "$cache/new.XXXXXX")
	chmod 755 "$new"
	for program in "${programs[@]}"; do
		"${tools}strip" --strip-debug -o "$new/$program" "$work/$build_dir/$program"
	done
	mv "$new" "$out"
	find "$cache" -maxdepth 1 -name "$variant-*" -printf '%T@ %p\n' | sort -rn | tail -n +$((KEEP + 1)) |
		cut -d ' ' -f 2- | xargs -r rm -rf
}

# key VARIANT VERSION: of everything that decides what the build is.
key()
{
	{
		printf '%s\n' "$1" "$2" "${options[@]}"
		cat "$glue/devices.mak"
		case $1 in
		*stock) ;;
		*) (cd "$glue" && sha256sum hw/*.[ch] hw/meson.build qapi/*.json "patches/$series"/*.patch ../proto/*.[ch]) ;;
		esac
	} | sha256sum | cut -c 1-16
}

main()
{
	local kvm='' variant=ext version out packages=()
	# What differs between this machine's QEMU and the one for KVM hosts; read by the functions above.
	local options build_dir programs tools series=${SERIES[0]} suite

	while [ $# -gt 0 ]; do
		case $1 in
		--kvm) kvm=kvm- ;;
		--stock) variant=stock ;;
		--series)
			series=${2-}
			[ -n "${SUITES[$series]-}" ] || die "there is no patch for QEMU '$series', but for: ${SERIES[*]}"
			shift
			;;
		*)
			echo "usage: build.sh [--kvm] [--stock] [--series X]" >&2
			exit 2
			;;
		esac
		shift
	done
	suite=${SUITES[$series]}
	variant=$kvm$variant
	[ "$series" = "${SERIES[0]}" ] || variant=$series-$variant
	if [ -n "$kvm" ]; then
		# Not everything that configure looks for is asked of pkg-config. -B is where meson finds static libraries by.
		options=("${COMMON_OPTIONS[@]}" "${KVM_OPTIONS[@]}" --extra-cflags="-I$sysroot/usr/include"
			--cc="${CROSS}gcc -B$sysroot/usr/lib/aarch64-linux-gnu")
		build_dir=build-kvm programs=(qemu-system-aarch64) tools=$CROSS packages=("${KVM_PACKAGES[@]}")
	else
		options=("${COMMON_OPTIONS[@]}" "${TCG_OPTIONS[@]}")
		build_dir=build programs=(qemu-system-aarch64 qemu-img) tools=''
	fi

	mkdir -p "$cache"
	exec 9>"$cache/lock-$series"
	version=$(cached_version)
	out=$cache/$variant-$(key "$variant" "$version")
	if [ -z "$version" ] || ! [ -x "$out/qemu-system-aarch64" ]; then
		flock -n 9 || { say "waiting for another build" && flock 9; }
		version=$(cached_version)
		install_packages "${packages[@]}"
		find_meson
		[ -z "$kvm" ] || find_sysroot
		if [ -z "$version" ]; then
			fetch_source
			version=$(cached_version)
		fi
		out=$cache/$variant-$(key "$variant" "$version")
		if ! [ -x "$out/qemu-system-aarch64" ]; then
			mkdir -p "$cache/${version%%+*}/pristine"
			build "$variant" "$cache/${version%%+*}"
			publish "$variant" "$cache/${version%%+*}" "$out"
		fi
	fi
	printf '%s\n' "$out/qemu-system-aarch64"
}

main "$@"
