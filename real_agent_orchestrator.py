"""The command line of the orchestrator, and the door for programs that import it.

python real_agent_orchestrator.py --help
from real_agent_orchestrator import ProviderLoadBalancer, RealAgent
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src.agents.real_agent import RealAgent
    from src.cli.answer import answer
    from src.core.orchestrator import ProviderLoadBalancer

__all__ = ["ProviderLoadBalancer", "RealAgent", "answer"]

_HOMES = {
    "ProviderLoadBalancer": "src.core.orchestrator",
    "RealAgent": "src.agents.real_agent",
    "answer": "src.cli.answer",
}


def __getattr__(name: str) -> Any:
    """Each name on demand, so that `--help` need not wait for the database's library."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


if __name__ == "__main__":
    from src.entry import orchestrator

    orchestrator()
