"""The message for a Python in which the packages are not installed.

This module imports nothing but the standard library: it must work when everything else is missing.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

EXIT_CODE = 2
REQUIRED = frozenset(
    {
        "aiohttp", "alembic", "anthropic", "click", "dotenv", "flask", "genai_prices", "google", "jsonschema",
        "openai", "pydantic", "regex", "rich", "sqlalchemy", "tzdata", "waitress",
    }
)  # fmt: skip


def exit_if_not_installed(error: ModuleNotFoundError) -> None:
    """Exit with one line if a required package is missing; return if `error` names any other module."""
    package = (error.name or "").partition(".")[0]
    if package not in REQUIRED or importlib.util.find_spec(package) is not None:
        return
    script = Path(sys.argv[0]).name
    sys.stderr.write(
        f"{package} is not installed in this Python ({sys.executable}): "
        f"use `make run`, or `.venv/bin/python {script}` after `make` has set up .venv\n"
    )
    sys.exit(EXIT_CODE)
