# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Sourced by the scripts that fetch packages of another Debian release than the machine's own.

# Where this machine gets Debian itself from, as "URI<tab>Signed-By"; the second may be empty. Both forms of apt's
# sources are read; those of other archives are passed over by the suite's name.
debian_archive()
{
	local codename

	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	{
		cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk -v suite="$codename" '
			function flush() {
				if ((" " suites " ") ~ (" " suite " ") && uri != "")
					print uri "\t" key
				uri = suites = key = ""
			}
			/^[ \t]*$/ { flush() }
			tolower($1) == "uris:" { uri = $2 }
			tolower($1) == "suites:" { $1 = ""; suites = $0 }
			tolower($1) == "signed-by:" { key = $2 }
			END { flush() }'
		cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | awk -v suite="$codename" '
			$1 == "deb" {
				key = match($0, /signed-by=[^] ]*/) ? substr($0, RSTART + 10, RLENGTH - 10) : ""
				sub(/\[[^]]*\]/, "")
				if ($3 == suite)
					print $2 "\t" key
			}'
	} | head -n 1 || true # files of one of the two forms are usually missing
}

# The same archive as a deb822 source for another suite. debian_source TYPES SUITE
debian_source()
{
	local archive

	archive=$(debian_archive)
	if [ -z "$archive" ]; then
		echo "no Debian archive in this machine's apt sources" >&2
		return 1
	fi
	printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\n' "$1" "${archive%%$'\t'*}" "$2"
	[ -z "${archive#*$'\t'}" ] || printf 'Signed-By: %s\n' "${archive#*$'\t'}"
}
