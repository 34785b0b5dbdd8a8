"""A pool over scripted providers, a real store in a temporary folder, and virtual time."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pydantic import SecretStr

from src.config import ProviderAccess, load_settings
from src.core.orchestrator import Orchestrator, OrchestratorOptions
from src.core.store import Store
from src.core.store_thread import StoreThread
from src.messages import Message
from src.records import CompletionRequest, Result, Task
from src.settings import LimitSettings, Settings

from .virtual_time import Answer, ScriptedAdapter, Traffic, VirtualLoop

BATCH = "queue"
Script = Callable[[CompletionRequest], tuple[float, Answer]]


def settings_with(**pool: Any) -> Settings:
    """The defaults with limits so wide that none binds, a budget that is never spent, and `pool` changed."""
    given = load_settings(environ={})
    limits = LimitSettings(requests_per_minute=600_000)
    return given.model_copy(
        update={
            "providers": {n: r.model_copy(update={"limits": limits}) for n, r in given.providers.items()},
            "budgets": given.budgets.model_copy(update={"daily_usd": 1_000.0}),
            "pool": given.pool.model_copy(update=pool),
        }
    )


def adapters_for(settings: Settings, scripts: Mapping[str, Script] | Script) -> dict[str, ScriptedAdapter]:
    """A scripted provider for each one configured; the same script for all, or by name."""
    found, traffic = {}, Traffic()
    for name, row in settings.providers.items():
        adapter = found[name] = ScriptedAdapter(
            name, scripts if callable(scripts) else scripts[name], traffic=traffic
        )
        adapter.models = sorted(
            {settings.resolve_model(row.models.of(t))[0] for t in ("economy", "standard", "premium")}
        )
    return found


def tasks(count: int, **fields: Any) -> list[Task]:
    """Tasks whose prompts are their ids."""
    return [
        Task(f"t{n:03}", BATCH, (Message("user", f"t{n:03}"),), max_tokens=50, **fields) for n in range(count)
    ]


def pool_over(
    store: Store,
    loop: VirtualLoop,
    settings: Settings,
    adapters: Mapping[str, ScriptedAdapter],
    on_result: Callable[[Iterable[Result]], None] | None = None,
) -> Orchestrator:
    access = {
        name: ProviderAccess(
            name,
            settings.providers[name],
            f"http://127.0.0.1:9/{name}",
            SecretStr("sk-test-0123456789"),
            "a test",
        )
        for name in adapters
    }
    options = OrchestratorOptions(adapters=adapters, on_result=on_result)
    return Orchestrator(settings, access, store, loop.clock(), options)


@cache
def _empty_database() -> Path:
    path = Path(mkdtemp()) / "empty.db"
    Store.open(path, simulated=False).close()
    return path


def new_store(folder: Path) -> Store:
    """A new store in `folder`. The schema is made once a process and copied: many examples need one each."""
    path = folder / "state.db"
    shutil.copyfile(_empty_database(), path)
    return Store.open(path, simulated=False)


class CountingThread(StoreThread):
    """Counts the store's calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    async def __call__(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls[method.__name__] += 1
        return await super().__call__(method, *args, **kwargs)
