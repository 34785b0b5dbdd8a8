"""Every model that will be or was called is named, with its rows, tokens and dollars."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import (
    Terminal,
    live_environment,
    read_rows,
    run_script,
    without_control_sequences,
    write_rows,
)

MODELS = ("claude-sonnet-5-5", "gemini-3.8-flash", "gpt-6.1-terra")
COLUMNS = 80


def in_terminal(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """The output of a command on a terminal of 80 columns, without colours."""
    with Terminal(*arguments, cwd=cwd, env=env, columns=COLUMNS, prints_to_pipe=False) as terminal:
        terminal.wait()
    return without_control_sequences(terminal.err)


def rows(folder: Path, count: int = 30) -> None:
    write_rows(folder / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"Question {n}?"} for n in range(count)])


def test_plan_and_closing_tables_are_whole_on_a_terminal_of_80_columns(tmp_path: Path) -> None:
    rows(tmp_path)
    for shown in (
        in_terminal("plan", "tasks.jsonl", cwd=tmp_path),
        in_terminal("run", "tasks.jsonl", cwd=tmp_path),
    ):
        lines = shown.replace("\r", "").splitlines()
        for model in MODELS:
            table = [line for line in lines if line.startswith(f"{model} ")]
            assert table, shown
            for line in table:
                assert len(line.rstrip()) <= COLUMNS and "…" not in line
                assert re.search(r"\$[\d.]+", line) or "answered" in shown


def test_messages_are_broken_between_words_on_a_terminal_of_80_columns(tmp_path: Path) -> None:
    rows(tmp_path, 3)
    plain = run_script("plan", "tasks.jsonl", cwd=tmp_path)
    words = {word for line in (plain.out + plain.err).splitlines() for word in line.split()}
    lines = in_terminal("plan", "tasks.jsonl", cwd=tmp_path).replace("\r", "").splitlines()
    assert not [line for line in lines if len(line.rstrip()) > COLUMNS]
    assert "simulated: no API key was found" in " ".join(lines)
    split = {word for line in lines for word in line.split()} - words
    assert not [word for word in split if not any(c.isdigit() for c in word)], split


def test_status_is_whole_on_a_terminal_of_80_columns(tmp_path: Path, live: dict[str, str]) -> None:
    rows(tmp_path)
    assert run_script("run", "tasks.jsonl", cwd=tmp_path, env=live).process.returncode == 0
    shown = in_terminal("status", cwd=tmp_path, env=live)
    tables = shown.replace("\r", "").partition("answered by")[0]
    assert "…" not in tables, shown
    assert re.search(r"(?m)^openai +healthy .*\$[\d.]+ *$", tables), shown
    assert "gemini not configured: no key in GOOGLE_API_KEY or GEMINI_API_KEY\n" in tables
    assert re.search(r"(?m)^openai +gpt-6\.1-terra +requests ", tables), shown


def test_the_progress_says_that_the_pool_is_starting(tmp_path: Path) -> None:
    rows(tmp_path)
    fresh = {"PYTHONNOUSERSITE": "1"}  # no fork: it has yet to import the SDKs
    shown = in_terminal("run", "tasks.jsonl", cwd=tmp_path, env=fresh)
    starting = shown.index("0 of 30 done, starting (loading SDKs)")
    assert starting < shown.index("30 of 30")


def test_no_provider_is_shown_that_is_not_configured(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("[providers.gemini]\nenabled = false\n")
    rows(tmp_path)
    shown = in_terminal("run", "tasks.jsonl", "--config", "one.toml", cwd=tmp_path)
    assert "gemini" not in shown
    assert re.search(r"(?m)^anthropic +healthy", shown) and "claude-sonnet-5-5" in shown


def test_plan_summary_and_progress_add_up_by_model(tmp_path: Path) -> None:
    rows(tmp_path)
    plan = json.loads(run_script("plan", "tasks.jsonl", "--json", cwd=tmp_path).out)
    assert {line["model"] for line in plan["lines"]} == set(MODELS)
    assert sum(line["calls"] for line in plan["lines"]) == 30
    assert max(line["done_s"] for line in plan["lines"]) == pytest.approx(plan["duration_s"], abs=0.01)
    done = run_script("run", "tasks.jsonl", "--json", cwd=tmp_path)
    summary = json.loads(done.out)["summary"]
    assert {name.partition("/")[2] for name in summary["models"]} == set(MODELS)
    for field in ("calls", "prompt_tokens", "output_tokens"):
        assert sum(sums[field] for sums in summary["models"].values()) == summary[field]
    answered = [row["model"] for row in read_rows(tmp_path / "tasks.results.jsonl")]
    for name, sums in summary["models"].items():
        assert sums["ok"] == answered.count(name.partition("/")[2])


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"])


@pytest.mark.parametrize(
    ("cap", "asks"),
    [("0.5", False), ("0.02", True), (None, True)],
    ids=["pays for all", "for some", "no cap"],
)
def test_a_cap_that_pays_for_the_plan_answers_the_question(
    tmp_path: Path, live: dict[str, str], cap: str | None, asks: bool
) -> None:
    rows(tmp_path, 5)
    (tmp_path / "careful.toml").write_text("confirm_above_usd = 0.0001\n")
    command = ["run", "tasks.jsonl", "--config", "careful.toml", *(["--max-cost", cap] if cap else [])]
    done = run_script(*command, cwd=tmp_path, env=live)
    assert re.search(r"plan:   gpt-6\.1-terra \(openai, standard\): \d calls?, \d+ tokens in, ", done.err)
    assert (done.process.returncode == 2) is asks, done.err
    if asks:
        assert re.search(r"expected to cost \$0\.\d+: \d calls? of gpt-6\.1-terra for \$0\.\d+", done.err)


def test_a_plan_suggests_a_limit_by_the_answers_so_far(tmp_path: Path, live: dict[str, str]) -> None:
    rows(tmp_path, 5)
    first = run_script("plan", "tasks.jsonl", cwd=tmp_path, env=live)
    assert "because answers may be far longer than usual; --max-tokens N lowers that" in first.out
    assert "too few answers are recorded yet" in first.out
    short = run_script("plan", "tasks.jsonl", "--max-tokens", "50", cwd=tmp_path, env=live)
    assert "lowers that" not in short.out, "the limit is low already"
    run_script("run", "tasks.jsonl", cwd=tmp_path, env=live)
    later = run_script("plan", "tasks.jsonl", cwd=tmp_path, env=live)
    suggested = re.search(r"--max-tokens (\d+) lowers that", later.out)
    assert suggested, later.out
    longest = max(row["usage"]["output_tokens"] for row in read_rows(tmp_path / "tasks.results.jsonl"))
    assert longest <= int(suggested[1]) <= 2048
    bounded = run_script(
        "plan", "tasks.jsonl", "--max-tokens", suggested[1], "--json", cwd=tmp_path, env=live
    )
    assert json.loads(bounded.out)["usual_max_tokens"] is None, "there is nothing left to suggest"
    assert (
        json.loads(bounded.out)["highest_usd"]
        < json.loads(run_script("plan", "tasks.jsonl", "--json", cwd=tmp_path, env=live).out)["highest_usd"]
    )
