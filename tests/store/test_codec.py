"""Records are read from JSON as they were written, and the JSON of other versions is harmless."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from src.core.store.codec import dump_record, load_record
from src.records import AgentSnapshot, PoolSnapshot
from tests.routing.build import START, make_balancer, make_settings

SNAPSHOT = replace(
    make_balancer(make_settings()).snapshot(START),
    agents=(AgentSnapshot("gpt-engineer", "openai", ("code",), 1, 4, 7),),
    waiting=3,
)


def test_a_snapshot_is_read_as_it_was_written() -> None:
    assert load_record(PoolSnapshot, dump_record(SNAPSHOT)) == SNAPSHOT


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e-300, 0.1 + 0.2])
def test_every_number_is_read_as_it_was_written(value: float) -> None:
    odd = replace(SNAPSHOT, offline_since=value)
    assert load_record(PoolSnapshot, dump_record(odd)) == odd


def test_text_that_is_not_valid_unicode_can_be_dumped() -> None:
    (first, *rest) = SNAPSHOT.providers
    odd = replace(SNAPSHOT, providers=(replace(first, name="a\ud800"), *rest))
    assert json.loads(dump_record(odd))["providers"][0]["name"] == "a\ud800"


@pytest.mark.parametrize(
    ("change", "is_readable"),
    [
        pytest.param({"of_a_newer_version": {"x": 1}}, True, id="another field"),
        pytest.param({"oldest_waiting_at": ...}, True, id="a field with a default is missing"),
        pytest.param({"waiting": ...}, False, id="a field without a default is missing"),
        pytest.param({"waiting": "many"}, False, id="another type"),
        pytest.param({"providers": [{}]}, False, id="another shape inside"),
    ],
)
def test_a_snapshot_of_another_version_is_read_as_far_as_it_fits_or_not_at_all(
    change: dict[str, object], is_readable: bool
) -> None:
    fields = json.loads(dump_record(SNAPSHOT)) | change
    text = json.dumps({name: value for name, value in fields.items() if value is not ...})
    assert load_record(PoolSnapshot, text) == (SNAPSHOT if is_readable else None)
