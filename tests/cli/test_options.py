"""Options for all rows: the same for `plan` and `run`, from the command line to the call and the results."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from src.cli.session import Options, PoolOptions, prepare
from src.config import load_settings
from src.core.intake import ReadOptions, RowDefaults
from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment, read_rows, run_script, write_rows
from tests.routing.build import make_balancer, make_settings, make_task, place, told_limits

CSV = "sku,text\nA-1,good\nA-2,bad\nA-3,fine\n"
OPTIONS = (
    *("--model", "gpt-4o", "--max-tokens", "50", "--temperature", "0.5", "--top-p", "0.9", "--seed", "7"),
    *("--system", "@system.txt", "--task-type", "analysis", "--id-column", "sku"),
    *("--prompt", "Classify: {text}", "--concurrency", "1"),
)


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"])


def rows_by_id(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(path)}


def test_plan_and_run_take_every_option_for_all_rows(tmp_path: Path, live: dict[str, str]) -> None:
    (tmp_path / "reviews.csv").write_text(CSV)
    (tmp_path / "system.txt").write_text("One word.\n")
    plan = run_script("plan", "reviews.csv", *OPTIONS, "--json", cwd=tmp_path, env=live)
    assert plan.process.returncode == 0, plan.err
    assert json.loads(plan.out)["tasks"] == 3
    done = run_script("run", "reviews.csv", *OPTIONS, "-o", "out.jsonl", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    rows = rows_by_id(tmp_path / "out.jsonl")
    assert set(rows) == {"A-1", "A-2", "A-3"}
    for row in rows.values():
        assert (row["model"], row["task_type"], row["warnings"]) == ("gpt-4o", "analysis", [])
        assert row["metadata"] == {"sku": row["id"], "text": row["metadata"]["text"]}
    agents = {row["agent"] for row in rows.values()}
    assert len(agents) == 1, "one call at a time takes one agent"


def test_with_cheapest_the_price_goes_before_the_preference_of_a_type() -> None:
    limited = make_settings(limits=told_limits(requests_per_minute=6_000))
    setup = prepare(Options(simulate=True)).with_settings(providers=limited.providers)
    for cheapest, prefers in ((False, True), (True, False)):
        settings = PoolOptions(cheapest=cheapest).apply(setup).settings
        balancer = make_balancer(settings)
        for name in ("openai", "anthropic", "gemini"):  # each once, so that prices are known
            place(balancer, task=make_task(name, providers=(name,)))
        found = Counter(place(balancer, task=make_task(n, "analysis")).provider for n in range(6))
        assert (found["anthropic"] == 6) is prefers, found


def test_a_parameter_that_the_model_does_not_take_is_named_in_each_row(
    tmp_path: Path, live: dict[str, str]
) -> None:
    write_rows(
        tmp_path / "tasks.jsonl", [{"id": "a", "prompt": "Hi"}, {"id": "b", "prompt": "Ho", "top_p": 1.0}]
    )
    done = run_script("run", "tasks.jsonl", "--top-p", "0.5", "--tier", "economy", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    for row in read_rows(tmp_path / "tasks.results.jsonl"):
        assert row["warnings"] == ["gpt-6-luna takes no top_p: it was not sent"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--temperature", "3"), "--temperature must be at most 2, not 3"),
        (("--max-tokens", "0"), "--max-tokens must be at least 1, not 0"),
        (("--concurrency", "0"), "'--concurrency': 0 is not in the range x>=1"),
        (("--system", "@none.txt"), "--system: none.txt: no such file"),
        (("--prompt", "Say {text}", "--prompt-file", "p.txt"), "both --prompt and --prompt-file are given"),
        (("--model", "gpt-6.1-tera"), "unknown model 'gpt-6.1-tera'; did you mean gpt-6.1-terra"),
        (("--model", "gpt-6-luna,claude-sonet-5-5"), "did you mean claude-sonnet-5-5"),
        (("--limit", "1", "--sample", "1"), "both --limit and --sample are given"),
        (("--prompt", "Say it"), "--prompt: no {column} in it"),
        (("--prompt", "Say {txt}"), "--prompt, line 1: no column 'txt'; did you mean 'text'?"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_plan_and_run_refuse_the_same_options(
    tmp_path: Path, command: str, options: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "reviews.csv").write_text(CSV)
    (tmp_path / "p.txt").write_text("{text}")
    done = run_script(command, "reviews.csv", *options, cwd=tmp_path)
    assert done.process.returncode == 2 and reason in done.err, done.err


def test_a_resumed_run_with_other_options_uses_them_for_the_tasks_that_wait(
    tmp_path: Path, live: dict[str, str]
) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"Question {n}?"} for n in range(4)])
    command = ("run", "tasks.jsonl", "-o", "out.jsonl")
    capped = run_script(
        *command, "--model", "gpt-4o", "--max-cost", "0.005", "--concurrency", "1", cwd=tmp_path, env=live
    )
    assert capped.process.returncode == 1, capped.err
    before = rows_by_id(tmp_path / "out.jsonl")
    assert 0 < len(before) < 4, capped.err
    rest = run_script(*command, "--tier", "economy", "--max-tokens", "9", cwd=tmp_path, env=live)
    assert rest.process.returncode == 0, rest.err
    assert (
        "options changed since the last run: --model not set (was gpt-4o), "
        "--tier economy (was not set), --max-tokens 9 (was not set)"
    ) in rest.err
    left = 4 - len(before)
    uses = "1 waiting task uses" if left == 1 else f"{left} waiting tasks use"
    assert f"{uses} the new options" in rest.err
    after = rows_by_id(tmp_path / "out.jsonl")
    assert {name: after[name]["output"] for name in before} == {n: r["output"] for n, r in before.items()}
    assert {after[name]["model"] for name in after if name not in before} == {"gpt-6-luna"}
    again = run_script(*command, "--tier", "economy", "--max-tokens", "9", cwd=tmp_path, env=live)
    assert "options changed" not in again.err and "nothing to do" in again.err


def test_truncated_rows_are_retried_with_the_new_limit(tmp_path: Path, live: dict[str, str]) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"id": "a", "prompt": "Hi"}, {"id": "b", "prompt": "Ho"}])
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--model", "gpt-4o", "--max-tokens")
    run_script(*command, "2", cwd=tmp_path, env=live)
    assert all(row["truncated"] for row in read_rows(tmp_path / "out.jsonl"))
    retried = run_script(*command, "2000", "--retry", "truncated", cwd=tmp_path, env=live)
    assert retried.process.returncode == 0, retried.err
    assert "2 waiting tasks use the new options" in retried.err
    assert "about 4,000 out" in retried.err, "answers that were cut off are planned as long as allowed"
    assert not any(row["truncated"] for row in read_rows(tmp_path / "out.jsonl"))


def test_an_edited_row_is_still_refused_beside_new_options(tmp_path: Path) -> None:
    tasks = write_rows(tmp_path / "tasks.jsonl", [{"id": "a", "prompt": "Hi"}, {"id": "b", "prompt": "Ho"}])
    assert run_script("run", "tasks.jsonl", cwd=tmp_path).process.returncode == 0
    write_rows(tasks, [{"id": "a", "prompt": "Hi"}, {"id": "b", "prompt": "Edited"}])
    refused = run_script("run", "tasks.jsonl", "--max-tokens", "50", cwd=tmp_path)
    assert refused.process.returncode == 2 and "1 id has new content (b)" in refused.err
    write_rows(
        tasks, [{"id": "a", "prompt": "Hi"}, {"id": "b", "prompt": "Ho"}, {"id": "c", "prompt": "New"}]
    )
    more = run_script("run", "tasks.jsonl", "--max-tokens", "50", cwd=tmp_path)
    assert more.process.returncode == 0 and "3 of 3 tasks answered" in more.out, more.err
    assert "2 tasks already done or in flight keep their results" in more.err
    assert "0 waiting tasks" not in more.err


@pytest.mark.parametrize("model", ["gpt-4o", "o3", "claude-sonnet-4-6", "gpt-4", "gemini-3.5-flash-lite"])
def test_every_model_with_a_price_or_a_successor_is_valid(model: str) -> None:
    ReadOptions(defaults=RowDefaults(models=(model,))).check(load_settings(environ={}))


def test_an_order_of_models_is_kept_while_the_first_one_can_serve(tmp_path: Path) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"Question {n}?"} for n in range(8)])
    done = run_script("run", "tasks.jsonl", "--model", "gemini-3.8-flash,gpt-6-luna", cwd=tmp_path)
    assert done.process.returncode == 0, done.err
    assert {row["model"] for row in read_rows(tmp_path / "tasks.results.jsonl")} == {"gemini-3.8-flash"}


def test_the_next_model_answers_while_the_first_one_fails(tmp_path: Path) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"Question {n}?"} for n in range(8)])
    command = ("run", "tasks.jsonl", "--model", "gpt-6-luna,claude-haiku-5-5", "--yes")
    with SimulatorProcess.start(
        {"providers": {"openai": {"faults": {"unavailable": 1.0}}, "anthropic": {}}}
    ) as own:
        env = live_environment(own.base_urls, only=["openai", "anthropic"])
        done = run_script(*command, cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    assert {row["model"] for row in read_rows(tmp_path / "tasks.results.jsonl")} == {"claude-haiku-5-5"}
    assert "claude-haiku-5-5" in done.out and "gpt-6-luna" in done.out, "the closing table names both"
    instead = (
        "8 tasks name gpt-6-luna first, which could not serve in time; claude-haiku-5-5 answered instead"
    )
    assert instead in done.out


def test_a_sample_is_not_run_again_with_the_whole_file(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"Question {n}?"} for n in range(12)])
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--tier", "economy")
    first = run_script(*command, "--sample", "4", cwd=tmp_path, env=live)
    assert first.process.returncode == 0 and "4 of 4 tasks answered" in first.out, first.err
    sample = rows_by_id(tmp_path / "out.jsonl")
    assert set(sample) != {"t0", "t1", "t2", "t3"}
    again = run_script(*command, "--sample", "4", cwd=tmp_path, env=live)
    assert "nothing to do" in again.err
    rest = run_script(*command, cwd=tmp_path, env=live)
    assert rest.process.returncode == 0 and "12 of 12 tasks answered" in rest.out, rest.err
    assert simulator.stats()["openai"]["calls"] == 12
    after = rows_by_id(tmp_path / "out.jsonl")
    assert {name: after[name]["output"] for name in sample} == {n: r["output"] for n, r in sample.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "tasks.txt", "--max-cost", "nan"), "'--max-cost': nan is no finite number"),
        (("run", "tasks.txt", "--max-cost", "inf"), "'--max-cost': inf is no finite number"),
        (("suggest-weights", "--hours", "nan"), "'--hours': nan is no finite number"),
        (("run", "tasks.txt", "--choices", ""), "--choices must not be empty"),
        (("plan", "tasks.txt", "--model", " , "), "--model must not be empty"),
        (("plan", "tasks.txt", "--only", ","), "--only must not be empty"),
        (("submit", "hello", "--only", ""), "--only must not be empty"),
        (("plan", "bad.jsonl"), "bad.jsonl: no usable tasks: its only line was rejected"),
        (("plan", "bad.jsonl"), "bad.jsonl, line 1: unknown key 'promt'"),
    ],
)
def test_an_option_or_file_without_use_is_refused_with_a_reason(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "tasks.txt").write_text("What is up?\n")
    (tmp_path / "bad.jsonl").write_text('{"promt": "What is up?"}\n')
    refused = run_script(*arguments, cwd=tmp_path)
    assert (refused.process.returncode, message in refused.err) == (2, True), refused.err
