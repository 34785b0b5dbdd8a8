"""What a long-lived process remembers of batches is forgotten with them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from src.config import load_settings
from src.core.clock import Clock
from src.core.orchestrator import Orchestrator
from src.core.store import DEFERS, Store
from src.simulator.process import SimulatorProcess

from ..providers.conftest import access_to
from .pools import BATCH, tasks
from .test_batching import simulator_of


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["create_reset", "results_cut"])
async def test_nothing_is_kept_of_batches_that_have_ended(tmp_path: Path, fault: str) -> None:
    path, settings = tmp_path / "state.db", load_settings(environ={})
    with SimulatorProcess.start(simulator_of()) as simulator, Store.open(path, simulated=False) as store:
        simulator.batch_fault("openai", fault)
        now = time.time()
        store.intake.create_batch(BATCH, now=now, options={DEFERS: 86_400.0})
        store.intake.add_tasks(tasks(120, providers=("openai",), deadline_at=now + 86_400.0), now=now)
        access = replace(
            access_to("openai", simulator.base_urls["openai"]), config=settings.providers["openai"]
        )
        orchestrator = Orchestrator(settings, {"openai": access}, store, Clock())
        report = await orchestrator.run(until_done=True)
        assert report.answered == 120
        assert not orchestrator._batches._life.notes
