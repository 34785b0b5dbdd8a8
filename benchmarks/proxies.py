"""What others put in front of the providers: LiteLLM's proxy and Portkey's gateway, each as it is installed.

Each is a server of its own on this machine with one worker, in front of one OpenAI provider; see `peers.py`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import peers
from .child import ClientFailed, environment
from .paced_upstream import MODEL
from .web import Server

READY_S = 120.0
MASTER_KEY = "sk-only-for-this-benchmark-on-this-machine-1"  # it refuses to start without one
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Proxy(Server):
    """A proxy that serves. `headers`: what its clients send besides."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A proxy that is installed. `start(path, base_url, limits)` serves; limits: rpm and tpm."""

    name: str
    start: Callable[[Path, str, Mapping[str, float]], AbstractContextManager[Proxy]]
    has_limits: bool


def installed() -> list[Kind]:
    """The proxies that can be measured here."""
    found = []
    if peers.LITELLM_PROXY.python:
        found.append(Kind(f"LiteLLM {peers.LITELLM_PROXY.version}, proxy", _litellm, has_limits=True))
    if version := peers.portkey_version():
        found.append(Kind(f"Portkey {version}", _portkey, has_limits=False))
    return found


@contextmanager
def _litellm(path: Path, base_url: str, limits: Mapping[str, float]) -> Iterator[Proxy]:
    params = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": "simulated", **limits}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": params}],
        "litellm_settings": {"telemetry": False, "drop_params": True},
        "general_settings": {"master_key": MASTER_KEY},
        "router_settings": {"routing_strategy": "usage-based-routing-v2"} if limits else {},
    }
    file = path / "litellm.json"  # JSON is YAML
    file.write_text(json.dumps(config), encoding="utf-8")
    program = Path(str(peers.LITELLM_PROXY.python)).with_name("litellm")
    port = _free_port()
    command = [str(program), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    more = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DISABLE_ADMIN_UI": "True"}
    with _serving(command, path, more, port, "/health/liveliness") as pid:
        yield Proxy(port, pid, {"Authorization": f"Bearer {MASTER_KEY}"})


@contextmanager
def _portkey(path: Path, base_url: str, limits: Mapping[str, float]) -> Iterator[Proxy]:
    port = _free_port()
    program = peers.PORTKEY_PACKAGE / "build" / "start-server.js"
    command = ["node", str(program), f"--port={port}", "--headless"]
    headers = {"Authorization": "Bearer simulated", "x-portkey-provider": "openai"}
    headers["x-portkey-custom-host"] = base_url
    with _serving(command, path, {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}, port, "/") as pid:
        yield Proxy(port, pid, headers)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def _serving(
    command: list[str], path: Path, more: Mapping[str, str], port: int, health: str
) -> Iterator[int]:
    """The process id of the server once it answers. Raises ClientFailed."""
    log = path / "proxy.txt"
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(
            command, cwd=path, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**environment(), **more}, start_new_session=True,
        )  # fmt: skip
        try:
            end = time.monotonic() + READY_S
            while not _answers(port, health):
                if child.poll() is not None or time.monotonic() > end:
                    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
                    raise ClientFailed(f"{command[0]} does not serve: {text[-1_500:]}")
                time.sleep(0.2)
            yield child.pid
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _answers(port: int, path: str) -> bool:
    try:
        with _direct.open(f"http://127.0.0.1:{port}{path}", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
