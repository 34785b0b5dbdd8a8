"""Every kind of refusal has a text, and what earlier versions stored stays readable."""

from __future__ import annotations

import pytest

from src.core.store.codec import decode_reasons, encode_reasons
from src.records import Candidate, RefusalKind, WaitReason
from src.refusal_text import candidate_text, exclusions_text, refusal_text, wait_text


@pytest.mark.parametrize("kind", RefusalKind)
def test_every_kind_has_a_text_that_reads_beside_a_providers_name(kind: RefusalKind) -> None:
    detail = "requests" if kind is RefusalKind.RATE_LIMIT else "DETAIL"
    text = refusal_text(kind, detail)
    assert text and "{" not in text and "_" not in text


@pytest.mark.parametrize("kind", RefusalKind)
def test_every_kind_can_be_waited_for(kind: RefusalKind) -> None:
    text = wait_text(WaitReason(kind, "openai", "tokens"))
    assert text and "{" not in text


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (WaitReason(RefusalKind.OFFLINE, "openai"), "the network"),
        (WaitReason(RefusalKind.RATE_LIMIT, "openai", "input_tokens"), "openai input tokens"),
        (WaitReason(RefusalKind.CONCURRENCY_LIMIT, "openai"), "openai: at its concurrency limit"),
        (WaitReason(RefusalKind.BUDGET_SPENT, "openai", "budget overall per day"),
         "budget overall per day: exhausted"),
        (WaitReason(RefusalKind.QUOTA_SPENT, "openai", "insufficient_quota"),
         "openai: quota spent (insufficient_quota)"),
        (WaitReason("a_kind_to_come", "openai"), "openai: a kind to come"),
    ],
)  # fmt: skip
def test_a_wait_names_the_thing_that_ends_it(reason: WaitReason, text: str) -> None:
    assert wait_text(reason) == text


def test_exclusions_name_the_providers_that_could_serve_the_model() -> None:
    unserved = [Candidate(name, "", 0.0, RefusalKind.MODEL_NOT_SERVED) for name in ("anthropic", "gemini")]
    unpriced = Candidate("openai", "gpt-x", 0.0, RefusalKind.UNKNOWN_PRICE)
    assert exclusions_text([*unserved, unpriced]) == "openai: its price is unknown, and a budget is set"
    assert exclusions_text(unserved).startswith("anthropic: serves none of the task's models; gemini: ")
    spent = Candidate("openai", "gpt-x", 0.0, RefusalKind.BUDGET_SPENT, "budget overall per day")
    assert exclusions_text([spent]) == "budget overall per day: exhausted"
    assert exclusions_text([Candidate("openai", "gpt-x", 0.5)]) == ""


def test_stored_reasons_come_back_as_they_were() -> None:
    reasons = (
        Candidate("openai", "gpt-x", 0.25),
        Candidate("gemini", "gem-x", 0.125, RefusalKind.RATE_LIMIT, "requests"),
    )
    assert decode_reasons(encode_reasons(reasons)) == reasons


def test_reasons_of_a_version_that_stored_texts_stay_readable() -> None:
    stored = '[["openai","gpt-x",0.25,""],["gemini","gem-x",0.125,"gemini requests"]]'
    eligible, refused = decode_reasons(stored)
    assert (eligible.kind, candidate_text(eligible)) == ("", "")
    assert (refused.kind, candidate_text(refused)) == (RefusalKind.OTHER, "gemini requests")
