"""How well preferences hold: the share of a task type's answers that came from its preferred provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..settings import Settings
from .store.sums import UsageRow


@dataclass(frozen=True, slots=True)
class PreferenceHeld:
    """The answers of one task type, and how many of them came from its preferred provider."""

    task_type: str
    provider: str
    answers: int
    preferred_answers: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.preferred_answers / self.answers


def preference_shares(rows: Iterable[UsageRow], settings: Settings) -> list[PreferenceHeld]:
    """A row for each task type with a preferred provider and answers. `rows`: by (task type, provider)."""
    if not settings.routing.preferences:
        return []
    answers: Counter[tuple[str, str]] = Counter()
    for row in rows:
        answers[str(row.key[0]), str(row.key[1])] += row.sums.ok
    found = []
    for name, given in settings.task_types.items():
        total = sum(count for (task_type, _), count in answers.items() if task_type == name)
        if given.prefer and total:
            held = sum(answers[name, row] for row in settings.with_families([given.prefer]))
            found.append(PreferenceHeld(name, given.prefer, total, held))
    return found
