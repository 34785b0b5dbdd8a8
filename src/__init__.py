"""Answers LLM tasks with a pool of agents over Claude, GPT and Gemini.

Installed, this package is `agent_orchestrator`:

    from agent_orchestrator import Pool, answer

`library/` documents both. Names are imported on demand, so that `--help` waits for no database library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agents.real_agent import RealAgent
    from .core.orchestrator import ProviderLoadBalancer
    from .errors import ConfigError, InputError, KeyRejected, OrchestratorError, PoolClosed, StoreError
    from .library import Pool, Progress, answer
    from .messages import Message
    from .records import Result, Task, TaskStatus, Usage

_HOMES = {
    "Pool": ".library",
    "Progress": ".library",
    "answer": ".library",
    "Message": ".records",
    "Result": ".records",
    "Task": ".records",
    "TaskStatus": ".records",
    "Usage": ".records",
    "ConfigError": ".errors",
    "InputError": ".errors",
    "KeyRejected": ".errors",
    "OrchestratorError": ".errors",
    "PoolClosed": ".errors",
    "StoreError": ".errors",
    "ProviderLoadBalancer": ".core.orchestrator",
    "RealAgent": ".agents.real_agent",
}

__all__ = [
    "ConfigError",
    "InputError",
    "KeyRejected",
    "Message",
    "OrchestratorError",
    "Pool",
    "PoolClosed",
    "Progress",
    "ProviderLoadBalancer",
    "RealAgent",
    "Result",
    "StoreError",
    "Task",
    "TaskStatus",
    "Usage",
    "answer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
