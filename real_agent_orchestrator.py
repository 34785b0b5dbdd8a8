"""The command line of the orchestrator, and the door for programs that import it.

python real_agent_orchestrator.py --help
from real_agent_orchestrator import Pool, answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import src
from src import __all__ as __all__

if TYPE_CHECKING:
    from src import *  # noqa: F403 - each name on demand, see `src/__init__.py`


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(src, name)


if __name__ == "__main__":
    from src.entry import orchestrator

    orchestrator()
