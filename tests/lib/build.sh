# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Sourced by ./demo and ./check: builds outside of the checkout, in directories named by the hash
# of what is built, so that nothing is built twice and no checkout is written to.

: "${top:?the caller sets it to the tree that is built}"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpupolicyd

# say TEXT...: one line about what happens now
say() {
	printf '== %s\n' "$*"
}

# source_files: what is part of the tree, NUL-separated, sorted
source_files() {
	if git -C "$top" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		# a file that is deleted and not yet committed is listed as well
		git -C "$top" ls-files -z --cached --others --exclude-standard |
			while IFS= read -r -d '' file; do
				[ ! -e "$top/$file" ] || printf '%s\0' "$file"
			done
	else
		(cd "$top" && find . -type f ! -path './.*/*' -printf '%P\0')
	fi | LC_ALL=C sort -z
}

# prune PATTERN KEEP: removes all but the newest directories of that name
prune() {
	local dir
	find "$cache" -maxdepth 1 -type d -name "$1" -printf '%T@ %p\n' | sort -rn |
		tail -n +"$(($2 + 1))" | cut -d' ' -f2- | while IFS= read -r dir; do rm -rf "$dir"; done
}

# one_at_a_time COMMAND...: of two that build the same, the second finds what the first has built
one_at_a_time() {
	local status=0
	mkdir -p "$cache"
	exec 8>"$cache/build.lock"
	flock 8
	"$@" || status=$?
	exec 8>&-
	return $status
}

# prepare_source: copies the tree and makes its configure script; sets $source
prepare_source() {
	one_at_a_time make_source
}

make_source() {
	local key
	key=$(source_files | (cd "$top" && xargs -0 sha256sum) | sha256sum | cut -c1-16)
	source=$cache/source-$key
	if [ ! -e "$source/.complete" ]; then
		say "preparing the sources (autoreconf)"
		rm -rf "$source"
		mkdir "$source"
		source_files | (cd "$top" && cpio --quiet -0pdm "$source")
		(cd "$source" && autoreconf -i) >"$source/.log" 2>&1 || {
			cat "$source/.log"
			return 1
		}
		touch "$source/.complete"
	fi
	touch "$source"
	prune 'source-*' 4
}

# build VARIANT CONFIGURE-ARGUMENT...: configures and compiles; sets $build
build() {
	one_at_a_time make_build "$@"
}

make_build() {
	local variant=$1
	shift
	build=$cache/build-${source##*-}-$variant
	if [ ! -e "$build/.complete" ]; then
		say "building ($variant), about half a minute"
		rm -rf "$build"
		mkdir "$build"
		{
			(cd "$build" && "$source/configure" -q "$@") &&
				make -s -C "$build" -j"$(nproc)" all
		} >"$build/make.out" 2>&1 || {
			tail -n 60 "$build/make.out"
			return 1
		}
		touch "$build/.complete"
	fi
	touch "$build"
	prune 'build-*' 8
}
