"""The figures of `/metrics` on batches at providers, from their sums in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..core.store import ProviderBatchSums
from .context import AppContext

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

RESULTS = {
    "answered": "answered",
    "failed": "failed",
    "expired": "expired",
    "pulled_back": "pulled_rows",
    "paid_late": "late",
}  # the value of the label -> the field of `ProviderBatchSums`


def provider_batch_metrics(context: AppContext) -> Iterator[Metric]:
    """Batches and their rows. Raises StoreError."""
    sums = context.store.provider_batch_lists.sums()
    yield _by_state(sums)
    yield from _open_ones(sums, context.now())
    yield _rows(sums)


def _by_state(sums: list[ProviderBatchSums]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    batches = GaugeMetricFamily(
        "orchestrator_provider_batches",
        "Batches at providers, by their state; `collected` and `failed`: all that were ever closed.",
        labels=["provider", "state"],
    )
    for each in sums:
        batches.add_metric([each.provider, str(each.state)], each.batches)
    return batches


def _open_ones(sums: list[ProviderBatchSums], now: float) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    waiting = GaugeMetricFamily(
        "orchestrator_provider_batch_rows_waiting",
        "Rows of batches at providers that have no result yet.",
        labels=["provider"],
    )
    age = GaugeMetricFamily(
        "orchestrator_provider_batch_age_seconds",
        "Age of the oldest batch at the provider that is not done with.",
        labels=["provider"],
    )
    rows: Counter[str] = Counter()
    oldest: dict[str, float] = {}
    for each in sums:
        rows[each.provider] += each.left_rows
        if each.state.is_open:
            oldest[each.provider] = min(each.oldest_at, oldest.get(each.provider, each.oldest_at))
    for provider in sorted(rows):
        waiting.add_metric([provider], rows[provider])
        age.add_metric([provider], max(0.0, now - oldest.get(provider, now)))
    yield waiting
    yield age


def _rows(sums: list[ProviderBatchSums]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    rows = CounterMetricFamily(
        "orchestrator_provider_batch_rows",
        "Rows of batches at providers by what became of them; one that was pulled back may be paid late too.",
        labels=["provider", "result"],
    )
    counts: Counter[tuple[str, str]] = Counter()
    for each in sums:
        for result, field in RESULTS.items():
            counts[each.provider, result] += getattr(each, field)
    for labels, number in sorted(counts.items()):
        rows.add_metric(labels, number)
    return rows
