"""What is said where a script is started by a Python that the packages are not installed in.

Imports nothing but the standard library: it has to work where all else is missing.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from .exits import INPUT_IS_WRONG

NEEDED = frozenset(
    {
        "aiohttp", "alembic", "anthropic", "click", "dotenv", "flask", "genai_prices", "google", "jsonschema",
        "openai", "pydantic", "regex", "rich", "sqlalchemy", "tzdata", "waitress",
    }
)  # fmt: skip


def refuse_where_not_installed(error: ModuleNotFoundError) -> None:
    """End in one line where a needed package is missing; any other missing module is a fault of ours."""
    package = (error.name or "").partition(".")[0]
    if package not in NEEDED or importlib.util.find_spec(package) is not None:
        return
    script = Path(sys.argv[0]).name
    sys.stderr.write(
        f"{package} is not installed in this Python ({sys.executable}): "
        f"use `make run`, or `.venv/bin/python {script}` once `make` has set up .venv\n"
    )
    sys.exit(INPUT_IS_WRONG)
