# SPDX-License-Identifier: GPL-2.0-or-later
"""Scraping /metrics, and reading OpenMetrics text strictly: what is not by its rules is an error."""

import http.client
import re
import socket

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_SUFFIXES = {
    "counter": {"_total"}, "gauge": {""}, "info": {"_info"},
    "histogram": {"_bucket", "_count", "_sum"},
}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
_NUMBER = re.compile(r"[-+]?(\d+(\.\d+)?(e[-+]?\d+)?|Inf)")


class UnixConnection(http.client.HTTPConnection):
    """HTTP by a unix socket."""

    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)  # blocks while the daemon's backlog is full
        self.sock.settimeout(self.timeout)


def get(path, target="/metrics", method="GET"):
    """(status, content type, text)"""
    connection = UnixConnection(path)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode("utf-8")
    finally:
        connection.close()


def _labels(text):
    labels, at = {}, 0
    while at < len(text):
        match = _LABEL.match(text, at)
        assert match, f"labels: {text!r}"
        assert match[1] not in labels, f"label twice: {text!r}"
        labels[match[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), match[2])
        at = match.end()
    return labels


class Metrics:
    """A scrape. `types` of all families; samples by name and labels."""

    def __init__(self, text):
        self.text = text
        self.types = {}
        self._samples = {}
        self._family = None
        assert text.endswith("\n# EOF\n") and text.count("# EOF\n") == 1, "it ends with # EOF"
        for line in text[:-len("# EOF\n")].splitlines():
            if line.startswith("# "):
                self._describe(*line.split(" ", 3)[1:])
            else:
                self._sample(line)
        for family, kind in self.types.items():
            if kind == "histogram":
                self._check_histogram(family)

    def _describe(self, keyword, family, rest):
        assert _NAME.fullmatch(family), family
        if keyword == "TYPE":
            assert family not in self.types, f"{family} is in two pieces"
            assert rest in _SUFFIXES, rest
            self.types[family] = rest
            self._family = family
            return
        assert family == self._family, f"{keyword} of {family} within {self._family}"
        assert keyword in ("HELP", "UNIT"), keyword
        assert keyword != "UNIT" or family.endswith("_" + rest), f"{family} in {rest}"

    def _sample(self, line):
        match = re.fullmatch(r"([^ {]+)(?:\{(.*)\})? ([^ ]+)", line)
        assert match, line
        name, labels, value = match.groups()
        kind = self.types[self._family]
        assert name.startswith(self._family), f"{name} within {self._family}"
        assert name[len(self._family):] in _SUFFIXES[kind], f"{name} is no {kind}"
        assert _NUMBER.fullmatch(value), line
        key = (name, frozenset(_labels(labels or "").items()))
        assert key not in self._samples, f"twice: {line}"
        assert kind == "gauge" or float(value) >= 0, line
        self._samples[key] = float(value)

    def _check_histogram(self, family):
        buckets = sorted((float(labels["le"]), value)
                         for labels, value in self.all(family + "_bucket"))
        values = [value for _, value in buckets]
        assert buckets[-1][0] == float("inf") and values == sorted(values), buckets
        assert values[-1] == self.get(family + "_count")

    def all(self, name):
        """[(labels, value)]"""
        return [(dict(labels), value) for (n, labels), value in self._samples.items() if n == name]

    def find(self, name, **labels):
        """The values of the samples that have these labels, and maybe more."""
        return [value for have, value in self.all(name) if labels.items() <= have.items()]

    def get(self, name, **labels):
        """The value of the one sample that has these labels, and maybe more."""
        found = self.find(name, **labels)
        assert len(found) == 1, f"{name}{labels}: {len(found)} samples"
        return found[0]


def scrape(path):
    status, kind, text = get(path)
    assert (status, kind) == (200, CONTENT_TYPE), (status, kind, text[:200])
    return Metrics(text)
