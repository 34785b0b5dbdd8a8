"""How many rows targets take, as far as they have refused some."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...routing.batch_choice import WORTH_ROWS
from ..store import ProviderBatch

FULL_S = 300.0  # a target that takes no more rows is left alone
REFUSED_S = 3_600.0  # and one that takes no batch at all
_ANY = ""  # model of a whole provider

Target = tuple[str, str]  # provider, model


@dataclass(slots=True)
class Rooms:
    """What is known of targets since the start of the process."""

    full_until: dict[Target, float] = field(default_factory=dict)
    most_rows: dict[Target, int] = field(default_factory=dict)
    refused_until: dict[Target, float] = field(default_factory=dict)

    def of(self, target: Target, now: float) -> float:
        """The rows that the target takes now."""
        is_full = now < self.full_until.get(target, 0.0)
        return 0.0 if is_full else float(self.most_rows.get(target, 1_000_000_000))

    def refuses(self, target: Target, now: float) -> bool:
        """Whether the target takes no batch at all, so that tasks had better not wait for it."""
        of_all = (target[0], _ANY)
        return any(now < self.refused_until.get(key, 0.0) for key in (target, of_all))

    def full(self, batch: ProviderBatch, now: float) -> None:
        """A batch found no room: the next one is smaller, and comes later."""
        self.busy(batch, now)
        self.most_rows[key_of(batch)] = max(WORTH_ROWS, batch.rows // 2)

    def busy(self, batch: ProviderBatch, now: float) -> None:
        """No batch is accepted now."""
        self.full_until[key_of(batch)] = now + FULL_S

    def refused(self, batch: ProviderBatch, now: float, *, by_key: bool) -> None:
        """A batch was refused, as the next one would be. `by_key`: for each model of the provider."""
        target = (batch.provider, _ANY) if by_key else key_of(batch)
        self.refused_until[target] = now + REFUSED_S


def key_of(batch: ProviderBatch) -> Target:
    """The target that a batch is in."""
    return batch.provider, batch.model
