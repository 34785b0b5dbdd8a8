"""LiteLLM beside us: it pins other versions of the SDKs, so it gets a virtual environment of its own.

python -m benchmarks.peers --install     # makes .bench-litellm, once; needs a package registry
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv

from .child import ROOT

FOLDER = ROOT / ".bench-litellm"
SCRIPT = "benchmarks/litellm_peer.py"
PACKAGE = "litellm>=1.106,<2"
MISSING = (
    "LiteLLM is not installed, so its rows are left out: `python -m benchmarks.peers --install` adds it."
)


def litellm_python() -> str | None:
    """The interpreter of LiteLLM's environment, None where there is none."""
    for place in ("bin/python", "Scripts/python.exe"):
        if (FOLDER / place).exists():
            return str(FOLDER / place)
    return None


def litellm_version() -> str:
    python = litellm_python()
    if python is None:
        return "missing"
    code = "from importlib.metadata import version; print(version('litellm'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def install() -> None:
    """Make the environment and install the package into it."""
    venv.create(FOLDER, with_pip=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    python = litellm_python()
    assert python is not None
    subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--install", action="store_true", help="make .bench-litellm with LiteLLM in it")
    if parser.parse_args().install:
        install()
    print(f"litellm: {litellm_version()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
