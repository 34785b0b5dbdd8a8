"""When which provider was out of service, from the events that report changes of state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...core.store import EventRow
from ...records import Event, ProviderCondition
from ..context import SUMS_FRESH_S, AppContext

OUT_STATES = frozenset(
    {
        ProviderCondition.OPEN,
        ProviderCondition.HALF_OPEN,
        ProviderCondition.EXHAUSTED,
        ProviderCondition.MISCONFIGURED,
        ProviderCondition.OFFLINE,
    }
)
_STATE_OF = {f"provider_{state}": state for state in ProviderCondition}
_OFFLINE, _ONLINE, _STARTED = "offline", "online", "started"
_KINDS = (*_STATE_OF, _OFFLINE, _ONLINE, _STARTED)
EVENTS_READ = 300


@dataclass(frozen=True, slots=True)
class Outage:
    """A provider was out of service. `provider` empty: the network was. `until` None: it still is."""

    provider: str
    since: float
    until: float | None

    @property
    def name(self) -> str:
        return f"{self.provider} out" if self.provider else "offline"


def outages(context: AppContext) -> tuple[Outage, ...]:
    """The outages that the newest events report, oldest first."""
    return context.cache.get("outages", lambda: _outages(context), SUMS_FRESH_S)


def _outages(context: AppContext) -> tuple[Outage, ...]:
    return outages_in(reversed(context.store.events.recent(EVENTS_READ, kinds=_KINDS)))


def outages_in(rows: Iterable[EventRow]) -> tuple[Outage, ...]:
    """The outages that events report, given oldest first. A new start of the orchestrator ends all."""
    open_since: dict[str, float] = {}
    found: list[Outage] = []

    def end(name: str, at: float) -> None:
        if name in open_since:
            found.append(Outage(name, open_since.pop(name), at))

    for row in rows:
        event = row.event
        if event.kind == _STARTED:
            for name in list(open_since):
                end(name, event.at)
        elif _begins(event):
            open_since.setdefault(event.provider, float(event.fields.get("since", event.at)))
        else:
            end(event.provider, event.at)
    found += [Outage(name, since, None) for name, since in open_since.items()]
    return tuple(sorted(found, key=lambda outage: outage.since))


def _begins(event: Event) -> bool:
    return event.kind == _OFFLINE or _STATE_OF.get(event.kind) in OUT_STATES
