#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# boot.sh NAME ROOT OPTION...: boots a copy of ROOT under systemd-nspawn, with these options. The copy is an overlay in memory, in
# a mount namespace of its own; all processes are in a pid namespace that ends with this one, however it ends. They are
# in control groups called NAME, which the caller removes.

set -euo pipefail

if [ "${1-}" != --unshared ]; then
	# nspawn alone would not do: the init that it starts outlives it
	exec unshare --mount --pid --fork --kill-child=KILL --mount-proc "$0" --unshared "$@"
fi
name=$2
root=$3
shift 3

# Of our own group in each hierarchy that systemd knows; nspawn takes what we are in to be its own.
mapfile -t groups </proc/self/cgroup
for group in "${groups[@]}"; do
	IFS=: read -r _ controllers path <<<"$group"
	case $controllers in
	'') mounts=(/sys/fs/cgroup /sys/fs/cgroup/unified) ;;
	name=systemd) mounts=(/sys/fs/cgroup/systemd) ;;
	*) continue ;;
	esac
	for mount in "${mounts[@]}"; do
		[ -e "$mount/cgroup.procs" ] || continue
		mkdir "$mount${path%/}/$name"
		echo $$ >"$mount${path%/}/$name/cgroup.procs"
	done
done

# Any directory: what is mounted there is seen by nobody else.
mount -t tmpfs -o size=2G,mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work "/mnt/$name"
mount -t overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" overlay "/mnt/$name"
# nspawn's locks; killed, it would leave them
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn

export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --boot --directory="/mnt/$name" --machine="$name" --register=no --keep-unit --settings=no \
	--private-network --link-journal=no --resolv-conf=off --timezone=off "$@"
