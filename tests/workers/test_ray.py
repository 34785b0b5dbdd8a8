"""Ray is an extra: without it everything else works, and asking for it gives one line."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers import ROOT


def test_without_ray_the_message_says_what_to_install() -> None:
    code = (
        "import asyncio, sys; sys.modules['ray'] = None\n"
        "from src.errors import ConfigError\n"
        "from src.workers.ray import open_fleet\n"
        "try: asyncio.run(open_fleet('auto', 'test'))\n"
        "except ConfigError as error: print(error)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert child.stdout.startswith("--workers: Ray is not installed (pip install"), child.stderr


def test_nothing_imports_ray_before_a_cluster_is_joined() -> None:
    code = "import sys, src.workers.ray, src.bootstrap, src.core.orchestrator; sys.exit('ray' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert child.returncode == 0
