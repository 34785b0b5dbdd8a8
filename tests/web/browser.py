"""A headless Chromium, or the reason why there is none. Debian: apt-get install chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import skip_without

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
AXE = "axe-core@4"
SERIOUS = {"serious", "critical"}


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser. Skips where Chromium or Playwright is missing, which in CI is a failure."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    if not CHROMIUM:
        skip_without("no chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


def follow(link: Any) -> None:
    """Click what opens another page, and wait until that page is loaded: a click alone may return before."""
    with link.page.expect_navigation():
        link.click()


def axe_source() -> str:
    """axe-core from the npm registry, cached in the temporary folder of this user. Skips without npm."""
    if not shutil.which("npm"):
        pytest.skip("no npm on this machine, and axe-core comes from there")
    folder = Path(tempfile.gettempdir()) / f"axe-core-{os.getuid()}"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        command = [
            "npm",
            "install",
            "--prefix",
            str(folder),
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--fetch-retries=1",
            AXE,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        except subprocess.TimeoutExpired:
            pytest.skip("axe-core could not be installed within a minute")
        if done.returncode:
            pytest.skip(f"axe-core could not be installed: {done.stderr.strip()[-200:]}")
    return script.read_text(encoding="utf-8")


def violations(page: Any, source: str, *rules: str) -> list[str]:
    """The serious and critical findings of axe-core, one line each: by these of its rules, or by all."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(source)
    options: dict[str, Any] = {"resultTypes": ["violations"]}  # of what passes it need not tell each element
    if rules:
        options["runOnly"] = list(rules)
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: {v['nodes'][0]['target']} of {len(v['nodes'])}"
        for v in found["violations"]
        if v["impact"] in SERIOUS
    ]
