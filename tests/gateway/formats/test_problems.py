"""Problems: each kind has its place in both APIs, and each error of a provider its kind."""

from __future__ import annotations

import pytest

from src.errors import PROVIDER_ERRORS, RateLimited
from src.gateway.formats.problems import ANTHROPIC, OPENAI, Problem, ProblemKind, problem_of, retry_headers


def test_each_api_has_a_shape_for_every_kind() -> None:
    assert set(OPENAI) == set(ANTHROPIC) == set(ProblemKind)


@pytest.mark.parametrize("name", PROVIDER_ERRORS)
def test_each_error_of_a_provider_is_a_problem(name: str) -> None:
    kwargs = {"answer": "", "problems": ""} if name == "SchemaMismatch" else {}
    problem = problem_of(PROVIDER_ERRORS[name]("openai: it failed", provider="openai", **kwargs))
    assert isinstance(problem.kind, ProblemKind)
    assert problem.message == "openai: it failed", "the message names the provider already"


@pytest.mark.parametrize("kind", ProblemKind)
def test_only_what_was_not_placed_may_come_again(kind: ProblemKind) -> None:
    again = kind in (ProblemKind.RATE_LIMITED, ProblemKind.UNAVAILABLE)
    assert retry_headers(Problem(kind, "no"))["x-should-retry"] == ("true" if again else "false")


def test_a_wait_is_told_in_whole_seconds_and_in_milliseconds() -> None:
    found = retry_headers(problem_of(RateLimited("slow down", retry_after_s=1.2345)))
    assert found == {"x-should-retry": "true", "retry-after": "2", "retry-after-ms": "1235"}
    assert "retry-after" not in retry_headers(Problem(ProblemKind.RATE_LIMITED, "no"))
