"""What others use, beside us. Each peer has a virtual environment of its own, with its own versions.

python -m benchmarks.peers --install     # makes all, once; needs package registries, and npm for one of them
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass

from .child import ROOT

MISSING = (
    "Rows of peers that are not installed are left out: `python -m benchmarks.peers --install` adds them."
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A client that runs as a script in an environment with `packages`, the first of which names it."""

    folder: str
    script: str
    packages: tuple[str, ...]

    @property
    def python(self) -> str | None:
        """The interpreter of its environment, None where there is none."""
        places = (ROOT / self.folder / place for place in ("bin/python", "Scripts/python.exe"))
        return next((str(place) for place in places if place.exists()), None)

    @property
    def version(self) -> str:
        """The installed version of its first package."""
        if self.python is None:
            return "missing"
        name = self.packages[0].partition(">")[0].partition("[")[0]
        code = f"from importlib.metadata import version; print(version({name!r}))"
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def install(self) -> None:
        """Make the environment and install the packages into it."""
        venv.create(ROOT / self.folder, with_pip=True)
        (ROOT / self.folder / ".gitignore").write_text("*\n", encoding="utf-8")
        assert self.python is not None
        subprocess.run([self.python, "-m", "pip", "install", "--quiet", *self.packages], check=True)


SDKS = Peer(
    ".bench-sdks", "benchmarks/bare.py", ("anthropic>=2.14,<3", "openai>=3.57,<4", "google-genai>=3.6,<4")
)
LITELLM = Peer(".bench-litellm", "benchmarks/litellm_peer.py", ("litellm>=1.106,<2",))
LITELLM_PROXY = Peer(".bench-proxy", "", ("litellm[proxy]>=1.106,<2",))  # see proxies.py
PEERS = (SDKS, LITELLM)


def python_for(client: str) -> str | None:
    """The interpreter for a peer's script; None for a client of this project."""
    return next((peer.python for peer in PEERS if peer.script == client), None)


def all_installed() -> bool:
    return all(peer.python for peer in PEERS)


PORTKEY = ROOT / ".bench-portkey"
PORTKEY_PACKAGE = PORTKEY / "node_modules" / "@portkey-ai" / "gateway"


def install_portkey() -> None:
    """Portkey's gateway in a folder of its own; nothing where there is no npm."""
    if (npm := shutil.which("npm")) is None:
        return
    PORTKEY.mkdir(exist_ok=True)
    (PORTKEY / ".gitignore").write_text("*\n", encoding="utf-8")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", ".", "@portkey-ai/gateway"]
    subprocess.run(command, cwd=PORTKEY, check=True)


def portkey_version() -> str | None:
    """The installed version of Portkey's gateway; None where it or node is missing."""
    file = PORTKEY_PACKAGE / "package.json"
    if not file.exists() or not shutil.which("node"):
        return None
    return str(json.loads(file.read_text(encoding="utf-8"))["version"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--install", action="store_true", help="make the environments of all peers")
    if parser.parse_args().install:
        for peer in (*PEERS, LITELLM_PROXY):
            peer.install()
        install_portkey()
    for peer in (*PEERS, LITELLM_PROXY):
        print(f"{peer.packages[0]}: {peer.version}")
    print(f"@portkey-ai/gateway: {portkey_version() or 'missing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
