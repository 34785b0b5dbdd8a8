"""The command line of the orchestrator, and the door for programs that import it.

python real_agent_orchestrator.py --help
from real_agent_orchestrator import ProviderLoadBalancer, RealAgent
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src.agents.real_agent import RealAgent
    from src.core.orchestrator import ProviderLoadBalancer

__all__ = ["ProviderLoadBalancer", "RealAgent"]


def __getattr__(name: str) -> Any:
    """The two classes on demand, so that `--help` need not wait for the database's library."""
    if name == "ProviderLoadBalancer":
        from src.core.orchestrator import ProviderLoadBalancer

        return ProviderLoadBalancer
    if name == "RealAgent":
        from src.agents.real_agent import RealAgent

        return RealAgent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    from src.cli.app import main

    main()
