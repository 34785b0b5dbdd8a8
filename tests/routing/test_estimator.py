"""What one answer teaches."""

from __future__ import annotations

import pytest

from src.records import Usage
from src.routing.limits.estimator import Estimators


@pytest.mark.parametrize(("in_batch", "learned"), [(False, (0.5, 0.0)), (True, (0.0, 0.5))])
def test_an_answer_teaches_lengths_and_what_a_cache_gave_live_or_in_a_batch(
    in_batch: bool, learned: tuple[float, float]
) -> None:
    estimators = Estimators({})
    for _ in range(100):
        estimators.observe("general", 400, 1, Usage(104, 104, 0, 77), in_batch=in_batch)
    found = estimators.of("general")
    assert found.output_tokens(1_000) == 77
    assert found.tokens_per_char == pytest.approx(0.5, abs=0.01)
    assert (found.cached_live, found.cached_in_batches) == pytest.approx(learned, abs=0.01)
