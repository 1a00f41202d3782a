#!/usr/bin/env zsh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# complete.zsh DIRECTORY LINE...: what an interactive zsh offers at the end of each LINE, one match per line, and an empty
# one after the last. DIRECTORY has the completion functions. The interactive shell reads this file as well.

if [[ -n $COMPLETE_DIRECTORY ]]; then
	PROMPT= RPROMPT=
	unset zle_bracketed_paste
	fpath=($COMPLETE_DIRECTORY $fpath)
	autoload -Uz compinit
	compinit -u -D

	# every completion ends in it; the calls that only try do not insert
	compadd() {
		if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
			builtin compadd "$@"
			return
		fi
		local -a hits
		builtin compadd -A hits "$@"
		((! $#hits)) || print -rl -- "<${^hits[@]}>"
		builtin compadd "$@"
	}
	capture() {
		print BEG""IN
		_main_complete
		print EN""D
		compstate[insert]= compstate[list]=
	}
	zle -C capture complete-word capture
	bindkey '^I' capture
	print REA""DY
	return
fi

zmodload zsh/zpty
export COMPLETE_DIRECTORY=$1
zpty shell zsh -f -i
zpty -w shell "source ${(q)0:A}"
zpty -r -m shell output '*READY*' || exit 1
for line in "${@[2,-1]}"; do
	# Ctrl-U: what the line before has left
	zpty -n -w shell $'\x15'"$line"$'\t'
	zpty -r -m shell output '*BEGIN*END*' || exit 1
	output=${${output#*BEGIN}%%END*}
	print -r -- ${output//$'\r'/} | sed -n 's/^<\(.*\)>$/\1/p'
	print
done
zpty -d shell
