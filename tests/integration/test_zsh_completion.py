# SPDX-License-Identifier: GPL-2.0-or-later
"""What an interactive zsh offers for cpuctl."""

import shutil
import subprocess

import pytest

from cpupolicy_test import paths


@pytest.fixture
def complete(host, directory):
    functions = directory / "functions"
    functions.mkdir()
    shutil.copy(paths.SOURCE / "client/cpuctl.zsh-completion", functions / "_cpuctl")
    env = host.bus.env()
    env.update(PATH=f"{paths.cpuctl().parent}:{env['PATH']}", CPUPOLICY_BUS=host.bus.address, LC_ALL="C.UTF-8")

    def run(*lines):
        out = subprocess.run([paths.SOURCE / "tests/integration/complete.zsh", functions, *lines], check=True, env=env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        assert out.stderr == ""
        offers = [set()]
        for word in out.stdout.splitlines():
            if word:
                offers[-1].add(word)
            else:
                offers.append(set())
        assert len(offers) == len(lines) + 1
        return offers[:-1]
    return run


def options(text):
    """The options in a help text, without what all commands have."""
    words = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    return set(words) - {"--system", "--session", "--address", "--help", "--version"}


def test_commands_and_options_are_those_of_the_help(host, complete):
    listed = host.cpuctl("--help").split("Commands:\n")[1].split("\n\n")[0]
    commands = [line.split()[0] for line in listed.splitlines()]
    offered, top = complete("cpuctl ", "cpuctl --")
    assert offered == set(commands)
    assert top == {"--system", "--session", "--address", "--bus", "--help", "--version"}
    common = {"--system", "--session", "--address", "--bus", "--help"}
    # a program of its own, where it is installed
    domain = subprocess.run([paths.build() / "cpuctl-domain", "--help"], stdout=subprocess.PIPE, text=True, check=True)
    for command, offered in zip(commands, complete(*[f"cpuctl {command} --" for command in commands])):
        text = domain.stdout if command == "domain" else host.cpuctl(command, "--help")
        assert offered - common == options(text), command


def test_names_come_from_the_daemon(host, complete):
    for name in ("web1", "web2", "with blank"):
        host.vmm(name)
    web, everything = {"web1", "web2"}, {"web1", "web2", "with\\ blank"}
    assert complete("cpuctl show ", "cpuctl set we", "cpuctl assign web1 ", "cpuctl explain web1 ",
                    f"cpuctl --bus={host.bus.address} show web") == [everything, web, {"default"}, set(), web]


def test_a_daemon_that_is_gone_is_no_noise(host, complete):
    host.daemon.stop()
    assert complete("cpuctl show ") == [set()]
