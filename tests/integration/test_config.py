# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration and options of the real program."""

import json
import os
import subprocess

import pytest

from cpupolicy_test import paths
from cpupolicy_test.daemon import Daemon

EXIT_USAGE, EXIT_CONFIG = 2, 3


def run(*args):
    return subprocess.run([paths.daemon(), *[str(a) for a in args]], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=30, check=False)


def check(directory, text):
    path = directory / "c.conf"
    path.write_text(text, encoding="utf-8")
    result = run("--config", path, "--check-config")
    return result, str(path)


BAD = {
    # text: (line, column of what is wrong, words of the message)
    '{\n  "socket": 5\n}': ("2:13", "socket", "5"),
    '{\n  "sokcet": "/x"\n}': ("2:3", "sokcet"),
    '{\n  "limits": {\n    "vms": 0\n  }\n}': ("3:12", "limits.vms", "1"),
    '{"limits": {"vms": 1.5}}': ("1:20", "integer"),
    '{"limits": []}': ("1:12", "object"),
    '{"default": {"limit": 4}}': ("1:2", "default"),
    '{"limits": {"vms": 4, "vms": 5}}': ("1:", "duplicate"),
    '{\n"socket": "relative/path"\n}': ("2:11", "relative"),
    '{"socket_mode": "0999"}': ("1:17", "0999"),
    '{"bus": "bogus"}': ("1:9", "bogus"),
    '{\n\n  "socket": "/x",\n}': ("4:", ""),
    '': ("1:", ""),
    '[]': ("1:1", "object"),
    '{"state_directory": "/' + "x" * 5 + '", "unknown": {}}': ("1:", "unknown"),
}


@pytest.mark.parametrize("text", BAD)
def test_error_names_file_line_column_and_what_was_expected(directory, text):
    result, path = check(directory, text)
    assert result.returncode == EXIT_CONFIG
    where, *words = BAD[text]
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, "one error, one line"
    assert f"{path}:{where}" in lines[0]
    for word in words:
        assert word in lines[0]


BAD_POLICY = {
    '{"classes": {"default": {"guaranteed": 9, "limit": 2}}}': ("1:40", "guaranteed", "limit"),
    '{"classes": {"default": {"verdicts": "perhaps"}}}': ("1:38", "perhaps", "ask"),
    '{"classes": {"default": {"observe": "yes"}}}': ("1:37", "yes"),
    '{"classes": {"web": {"limit": 513}}}': ("1:31", "512"),
    '{"classes": {"web": {"limit": 4, "limit": 5}}}': ("1:", "duplicate"),
    '{"classes": {"web": {"cpu_on": {"per_second": -1}}}}': ("1:47", "-1"),
    '{\n"default_class": "nobody"\n}': ("2:18", "nobody"),
    '{"rules": [{"match": {"name": "web*"}, "class": "none"}]}': ("1:", "none"),
    '{"vms": {}}': ("1:2", "vms"),
}


@pytest.mark.parametrize("text", BAD_POLICY)
def test_error_in_the_policy(directory, text):
    (directory / "policy").mkdir()
    path = directory / "policy" / "a.json"
    path.write_text(text, encoding="utf-8")
    config = {"socket": f"{directory}/s", "state_directory": f"{directory}/state", "bus": "none",
              "policy_directory": str(path.parent)}
    result, _ = check(directory, json.dumps(config))
    assert result.returncode == EXIT_CONFIG
    where, *words = BAD_POLICY[text]
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, "one error, one line"
    assert f"{path}:{where}" in lines[0]
    for word in words:
        assert word in lines[0]


def test_policy_is_checked_as_a_whole(directory):
    config = {"socket": f"{directory}/s", "state_directory": f"{directory}/state", "bus": "none",
              "policy_directory": f"{directory}/policy"}
    (directory / "policy").mkdir()
    (directory / "policy" / "10-classes.json").write_text('{"classes": {"web": {}}}', "utf-8")
    (directory / "policy" / "20-rules.json").write_text(
        '{"rules": [{"match": {"name": "w*"}, "class": "web"}]}', "utf-8")
    (directory / "policy" / "notes.txt").write_text("not read", "utf-8")
    result, _ = check(directory, json.dumps(config))
    assert result.returncode == 0, result.stderr
    assert f"{directory}/policy: correct, 2 files, 2 classes" in result.stdout


def test_example_is_correct():
    result = run("--config", paths.SOURCE / "docs/cpupolicyd.conf.example", "--check-config")
    assert result.returncode == 0, result.stderr


def test_check_config_touches_nothing(directory):
    config = {"socket": f"{directory}/s", "state_directory": f"{directory}/state", "bus": "none"}
    result, _ = check(directory, json.dumps(config))
    assert result.returncode == 0, result.stderr
    assert sorted(os.listdir(directory)) == ["c.conf"]


def test_missing_file_is_an_error_where_it_was_named(directory):
    result = run("--config", directory / "nothing", "--check-config")
    assert result.returncode == EXIT_CONFIG
    assert "nothing" in result.stderr and "No such file" in result.stderr


def test_daemon_does_not_start_on_a_bad_configuration(directory):
    daemon = Daemon(directory, None, {"limits": {"vms": "many"}})
    status, text = daemon.run_to_end()
    assert status == EXIT_CONFIG
    assert f"{daemon.config_path}:" in text
    assert not daemon.socket.exists() and not daemon.state.exists()


def test_options_replace_the_configuration(directory):
    daemon = Daemon(directory, None, {"socket": "/nonexistent/socket"})
    daemon.socket = directory / "other.sock"
    argv = daemon.argv()
    daemon.argv = lambda: [*argv, "--socket", daemon.socket]
    try:
        daemon.start()
    finally:
        daemon.stop()


def test_help_and_version():
    result = run("--help")
    assert result.returncode == 0
    for option in ("--config", "--check-config", "--socket", "--state-directory",
                   "--policy-directory", "--bus", "--log-level", "--version"):
        assert option in result.stdout
    result = run("--version")
    assert result.returncode == 0 and result.stdout.startswith("cpupolicyd ")


@pytest.mark.parametrize("args", [["--frobnicate"], ["argument"], ["--log-level", "loud"]])
def test_wrong_usage(args):
    result = run(*args)
    assert result.returncode == EXIT_USAGE
    assert result.stderr and not result.stdout


def test_log_level(directory):
    daemon = Daemon(directory, None)
    argv = daemon.argv()
    daemon.argv = lambda: [*argv, "--log-level", "error"]
    daemon.start()
    daemon.stop()
    assert daemon.log() == ""
