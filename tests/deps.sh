#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Installs the Debian packages that building and testing need: "deps.sh demo" those of ./demo,
# "deps.sh check" all. Does nothing, and needs neither root nor network, where all are installed.

set -euo pipefail

demo=(
	# the daemon
	autoconf autoconf-archive automake libtool pkg-config gcc make libc6-dev
	libevent-dev libjansson-dev libsystemd-dev libsqlite3-dev check
	# QEMU
	bison bzip2 ca-certificates dpkg-dev flex libfdt-dev libglib2.0-dev libslirp-dev ninja-build patch
	python3-venv xz-utils zlib1g-dev
	# the guest
	cpio gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	# running it; systemd is where busctl is
	dbus python3 systemd
)
check=(
	"${demo[@]}"
	bash-completion ccache clang-format git polkitd python3-pytest python3-pytest-xdist shellcheck tmux zsh
	# the libvirt bridge, and a libvirtd to test it with
	libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu libvirt-dev libxml2-dev qemu-system-x86
	# packages, and the machine that they are installed in
	apparmor debhelper debootstrap lintian selinux-policy-dev systemd-container
)

case ${1:-check} in
demo) wanted=("${demo[@]}") ;;
check) wanted=("${check[@]}") ;;
*)
	echo "usage: deps.sh [demo|check]" >&2
	exit 2
	;;
esac

missing=()
for package in "${wanted[@]}"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=none
	[ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "deps.sh: installing ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: only root can install packages; as root: apt-get install ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
