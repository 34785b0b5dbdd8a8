"""One request that has been read, and what its answer says about itself."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.direct import DirectAnswer, Run
from ..records import NANOS_PER_USD, Placement, Task
from ..settings import Settings
from .formats.base import CallerRequest, Format, Served
from .requests import RequestOptions


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that has been read, and the task that it becomes."""

    format: Format
    request: CallerRequest
    options: RequestOptions
    task: Task
    settings: Settings
    simulated: bool

    @property
    def run(self) -> Run | None:
        """The run that it belongs to."""
        if not self.options.run_id:
            return None
        return Run(self.options.run_id, self.options.run_max_cost_usd)

    def served(self, model: str) -> Served:
        """What the answer of `model` says about itself."""
        return Served(self.task.id.removeprefix("req_"), self.task.created_at, model)

    def dropped(self, provider: str, model: str) -> str:
        """The fields of the request that this model did not get."""
        found: dict[str, None] = {}
        if self.request.form not in self.settings.providers[provider].native_forms:
            found = dict.fromkeys(self.request.hints)
        found |= dict.fromkeys(self.settings.unsent(provider, model, self.task.parameters))
        return ", ".join(found)


def answer_headers(asked: Asked, answer: DirectAnswer) -> dict[str, str]:
    """Headers of an answer: provider, model, cost, attempts and wait."""
    found = placement_headers(asked, answer.placement, answer.attempts, answer.waited_s)
    if answer.cost_nanos is not None:
        found["x-orchestrator-cost-usd"] = usd(answer.cost_nanos)
    return found


def placement_headers(asked: Asked, placement: Placement, attempts: int, waited_s: float) -> dict[str, str]:
    """The headers that are known when an answer begins."""
    found = {
        "x-orchestrator-provider": placement.provider,
        "x-orchestrator-model": placement.model,
        "x-orchestrator-attempts": str(attempts),
        "x-orchestrator-waited-ms": str(round(waited_s * 1000)),
        "x-orchestrator-task-id": placement.task.id,
    }
    if asked.simulated:
        found["x-orchestrator-simulated"] = "true"
    if dropped := asked.dropped(placement.provider, placement.model):
        found["x-orchestrator-dropped-params"] = dropped
    return found


def usd(nanos: int) -> str:
    """Dollars without an exponent."""
    return f"{nanos / NANOS_PER_USD:.9f}".rstrip("0").rstrip(".") or "0"
