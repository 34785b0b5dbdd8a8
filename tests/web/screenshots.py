"""Pictures of every page for docs/screenshots: light and dark, wide and narrow, of a pool under load.

    python -m tests.web.screenshots [FOLDER]        needs chromium, and pngquant for small files

Simulator, orchestrator and pages run as they do for a user, for five minutes before the pictures. One
provider is short of requests, and another fails now and then and is out for a while, so that the pages have
something to tell.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.helpers import ROOT, Script

from .browser import chromium
from .stack import JsonClient

LAST_WEEK = "tickets of last week.jsonl"
FOLDER = ROOT / "docs" / "screenshots"
TYPES = ("general", "research", "analysis", "code_generation", "creative_writing")
HISTORY_S = 300.0  # of traffic, in all pictures
CONFIGURED = {"anthropic": 180, "openai": 240, "gemini": 60}  # requests per minute
SIMULATOR = {
    "seed": 3,
    "providers": {
        "anthropic": {"latency": {"first_token_s": 0.7, "per_token_s": 0.004}},
        "openai": {
            "latency": {"first_token_s": 0.5, "per_token_s": 0.004},
            "faults": {"server_error": 0.02, "overloaded": 0.01},
            "schedule": [{"from_s": 120, "to_s": 210, "fault": "outage"}],
        },
        "gemini": {
            "latency": {"first_token_s": 0.4, "per_token_s": 0.003},
            "limits": {"requests_per_minute": 48},  # less than configured
        },
    },
}
FILE = [
    {
        "id": f"review-{n:03}",
        "prompt": f"Sort review {n} into praise, complaint or question.",
        "task_type": "analysis",
    }
    for n in range(1, 241)
] + [{"promt": "a key that is misspelled"}, {"prompt": "", "id": "empty"}]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        cwd = Path(made)
        limits = [f"[providers.{name}.limits]\nrequests_per_minute = {n}" for name, n in CONFIGURED.items()]
        (cwd / "own.toml").write_text("\n".join(limits), encoding="utf-8")
        (cwd / "simulator.json").write_text(json.dumps(SIMULATOR), encoding="utf-8")
        lines = "".join(json.dumps(row) + "\n" for row in FILE)
        (cwd / "reviews.jsonl").write_text(lines, encoding="utf-8")
        environ = {"ORCHESTRATOR_CONFIG": "own.toml"}
        command = ("--quiet", "--simulator-config", "simulator.json")
        with (
            Script(*command, cwd=cwd, env=environ),
            Script("--port", "0", cwd=cwd, env=environ, script=ROOT / "web_server.py") as pages,
        ):
            pages.wait_for("pages on ")
            found = re.search(r"pages on (http://\S+)", pages.out)
            assert found
            api = JsonClient(found[1])
            _create_load(api)
            with chromium() as browser:
                _take_all(browser, api, cwd / "reviews.jsonl", folder)
    if shutil.which("pngquant"):
        pictures = [str(path) for path in folder.glob("*.png")]
        subprocess.run(["pngquant", "--force", "--ext", ".png", "--quality", "70-95", *pictures], check=True)


def _create_load(api: JsonClient) -> None:
    """Some tasks answered, many waiting, and a little history."""
    rows = [
        {"id": f"ticket-{n:04}", "prompt": _PROMPTS[n % len(_PROMPTS)].format(n), "task_type": TYPES[n % 5]}
        for n in range(1, 4001)
    ]
    api.call("/api/tasks", {"tasks": rows[:200], "batch": LAST_WEEK, "wait_s": 45})
    for body in ({"preset": "performance"}, {"weights": {"anthropic": 0.3, "openai": 0.45, "gemini": 0.25}}):
        api.call("/api/providers/rebalance", body)
    api.call("/api/tasks", {"tasks": rows, "batch": "tickets.jsonl"})
    api.call("/api/tasks", {"prompt": "Is anybody there?", "priority": 9})
    api.until_noticed()
    time.sleep(HISTORY_S)


_PROMPTS = (
    "Summarise ticket {0} in two sentences: the customer can't sign in after the last update.",
    "What is known about outages of this kind? Ticket {0} reports timeouts at night.",
    "Which of the three causes in ticket {0} is the likeliest, and why?",
    "Write a Python function that finds the duplicates in the export of ticket {0}.",
    "Write a friendly answer to ticket {0}, which asks for a refund.",
)


def _take_all(browser: Any, api: JsonClient, file: Path, folder: Path) -> None:
    tasks = api.call(
        "/api/tasks?batch=tickets of last week.jsonl&status=succeeded&limit=500".replace(" ", "%20")
    )["tasks"]
    eventful = max(tasks, key=lambda task: int(task["attempts"]))
    paths = {
        "dashboard": "/",
        "batches": "/batches",
        "batch": "/batches/tickets.jsonl",
        "new": "/new",
        "providers": "/provider-status",
        "rebalance": "/rebalance?preset=suggested",
        "tasks": "/tasks?status=succeeded",
        "task": eventful["url"],
        "costs": "/costs",
        "events": "/events",
    }
    for scheme in ("light", "dark"):
        for kind, width in (("wide", 1280), ("narrow", 390)):
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 900}, locale="en-GB"
            )
            page = context.new_page()
            page.set_default_timeout(120_000)
            for name, path in paths.items():
                page.goto(api.url + path)
                page.screenshot(path=folder / f"{name}-{scheme}-{kind}.png", full_page=name != "tasks")
            page.goto(f"{api.url}/new")
            page.set_input_files("input[type=file]", file)
            page.get_by_role("button", name="Preview file").click()
            page.wait_for_url("**/uploads/**")
            page.screenshot(path=folder / f"upload-{scheme}-{kind}.png", full_page=True)
            page.get_by_role("button", name="Discard the file").click()
            context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
