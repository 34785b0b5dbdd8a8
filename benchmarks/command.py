"""The command line as a user types it: a process of its own, with what it prints and its processor time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .child import ROOT, ClientFailed, children_cpu_s, environment
from .work import Json

TIMEOUT_S = 600.0
KEYS = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_BASE_URL"),
}


class Command:
    """Commands over a state of their own in `path`, live, with these providers.

    `tables`: settings, by the name of their table. `cpu_s`: processor time of the last command, start to end.
    """

    def __init__(
        self, path: Path, base_urls: Mapping[str, str], tables: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.cpu_s = 0.0
        self._path = path
        self._settings = write_settings(path / "settings.toml", tables)
        self._environ = keyed_environment(base_urls)

    def __call__(self, *arguments: str | Path) -> Json:
        """Its standard output as JSON. Raises ClientFailed."""
        shared: list[str | Path] = ["--config", self._settings, "--state-dir", self._path / "state"]
        before_s = children_cpu_s()
        done = subprocess.run(
            [sys.executable, ROOT / "real_agent_orchestrator.py", *shared, *arguments],
            cwd=self._path, env=self._environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        self.cpu_s = children_cpu_s() - before_s
        if done.returncode:
            raise ClientFailed(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-2_000:]}")
        found: Json = json.loads(done.stdout)
        return found


def keyed_environment(base_urls: Mapping[str, str]) -> dict[str, str]:
    """The environment of a user with a key for each of these providers, which lie on this machine."""
    environ = environment()
    for name, url in base_urls.items():
        key, url_name = KEYS[name]
        environ |= {key: "no-key", url_name: url}
    return environ


def write_settings(path: Path, tables: Mapping[str, Any]) -> Path:
    """Settings, by the name of their table, as a file; a list of rows where the table is one."""
    path.write_text("".join(_toml(*each) for each in tables.items()), encoding="utf-8")
    return path


def _toml(name: str, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(values, Mapping):
        return f"[{name}]\n" + _pairs(values)
    return "".join(f"[[{name}]]\n{_pairs(row)}" for row in values)


def _pairs(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
