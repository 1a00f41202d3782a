# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Sourced by ./demo and ./check: builds outside of the checkout, in directories named by the hash
# of what is built, so that nothing is built twice and no checkout is written to.

: "${top:?the caller sets it to the tree that is built}"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpupolicyd

# Where ccache is, what has not changed is not compiled again. A tree's path has the tree's hash in it, so all paths that
# the compiler is given are relative, and where it runs does not count.
if [ -z "${CC-}" ] && command -v ccache >/dev/null; then
	export CC="ccache gcc"
fi
export CCACHE_NOHASHDIR=1

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

# prune PATTERN KEEP: removes all but the newest directories of that name, and none that may be in use
prune() {
	local age dir
	find "$cache" -maxdepth 1 -type d -name "$1" -printf '%T@ %p\n' | sort -rn | tail -n +"$(($2 + 1))" |
		while read -r age dir; do
			[ $(($(date +%s) - ${age%.*})) -lt 3600 ] || rm -rf "$dir"
		done
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
		rm -rf "$source"
		mkdir "$source"
		source_files | (cd "$top" && cpio --quiet -0pdm "$source")
		add_configure || return 1
		touch "$source/.complete"
	fi
	touch "$source"
	prune 'source-*' 4
}

# add_configure: what autoreconf makes; that is the same until one of the files that it is made from changes
add_configure() {
	local made
	made=$cache/autoreconf-$(cat "$source/configure.ac" "$source/Makefile.am" | sha256sum | cut -c1-16)
	if [ ! -e "$made.tar" ]; then
		say "preparing the sources (autoreconf)"
		(cd "$source" && touch .before && find . -type f | sort >.list && autoreconf -i) >"$source/.log" 2>&1 || {
			cat "$source/.log"
			return 1
		}
		(cd "$source" && find . -type f ! -path './autom4te.cache/*' ! -name '.[a-z]*' | sort |
			comm -13 .list - | tar -cf "$made.new" -T -) && mv "$made.new" "$made.tar"
	fi
	# All of the same age: make finds nothing to be out of date.
	tar -xmf "$made.tar" -C "$source" && tar -tf "$made.tar" | (cd "$source" && xargs touch -r configure)
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
		ln -s "../${source##*/}" "$build/source"
		{
			(cd "$build" && source/configure -q "$@") &&
				make -s -C "$build" -j"$(nproc)" all
		} >"$build/make.out" 2>&1 || {
			tail -n 60 "$build/make.out"
			return 1
		}
		touch "$build/.complete"
	fi
	touch "$build"
	prune 'build-*' 12
}
