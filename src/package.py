"""Where this package is, what it is called, and how its modules run as child processes.

A checkout has it as `src`, with `orchestrator.toml`, `templates/`, `static/` and `examples/` beside it. Once
installed it is `agent_orchestrator` and holds them. Only the standard library is imported here.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = __package__ or "src"
INSTALLED = PACKAGE != "src"
DISTRIBUTION = "llm-agent-orchestrator"
RESOURCES = Path(__file__).resolve().parents[0 if INSTALLED else 1]  # settings, templates, examples
_FOLDER = Path(__file__).resolve().parents[1]  # the package is imported from here


def version() -> str:
    """This project's version, which stands in `pyproject.toml` alone."""
    if INSTALLED:
        from importlib.metadata import version as version_of

        return version_of(DISTRIBUTION)
    import tomllib

    with (RESOURCES / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def module_command(name: str) -> list[str]:
    """The start of a command that runs a module of this package with this Python, in any folder.

    The current folder is not searched for modules (-P): it is the user's, and may hold a `json.py`.
    """
    path = f"sys.path.count({str(_FOLDER)!r}) or sys.path.insert(0, {str(_FOLDER)!r})"
    run = f"runpy.run_module({f'{PACKAGE}.{name}'!r}, None, '__main__', True)"
    return [sys.executable, "-P", "-c", f"import runpy, sys; {path}; {run}"]


def program(name: str) -> list[Path | str]:
    """The words that start `orchestrator` or `pages` in a shell: a script of a checkout, else a command."""
    script, command = {
        "orchestrator": ("real_agent_orchestrator.py", "agent-orchestrator"),
        "pages": ("web_server.py", "agent-orchestrator-pages"),
    }[name]
    return [command] if INSTALLED else [Path(sys.executable), RESOURCES / script]
