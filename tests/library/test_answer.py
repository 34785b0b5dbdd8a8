"""`answer` from Python, with a cap: real keys to the simulator, so that dollars count."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from src import InputError, KeyRejected, Result, StoreError, Task, answer
from src.library import lead
from src.messages import Message
from src.simulator.process import SimulatorProcess
from tests.helpers import ORCHESTRATOR, Script, live_environment, run_script

PROGRAM = """
import json
import sys
from real_agent_orchestrator import answer

prompts = [f"Question {n}? " + "More of it. " * 30 for n in range(40)]
results = answer(prompts, max_cost_usd=float(sys.argv[1]), state_dir="state")
rows = [[r.task.messages[0].content.split("?")[0], r.status, r.error, r.cost_nanos] for r in results]
print(json.dumps(rows))
"""


@pytest.fixture
def env(simulator: SimulatorProcess) -> dict[str, str]:
    live = live_environment(simulator.base_urls, only=["openai"])
    return {**live, "PYTHONPATH": str(ORCHESTRATOR.parent)}


@pytest.fixture
def here(tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with these keys in the environment."""
    monkeypatch.chdir(tmp_path)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def run_program(folder: Path, cap: str, env: dict[str, str]) -> Script:
    (folder / "program.py").write_text(PROGRAM)
    return run_script(cap, script=folder / "program.py", cwd=folder, env=env)


def tasks_by_status(folder: Path, env: dict[str, str]) -> dict[str, int]:
    report: dict[str, Any] = json.loads(run_script("status", "--json", cwd=folder, env=env).out)
    return {status: count for status, count in report["tasks"].items() if count}


def test_tasks_beyond_the_cap_come_back_cancelled_in_their_places(
    tmp_path: Path, env: dict[str, str]
) -> None:
    done = run_program(tmp_path, "0.02", env)
    assert done.process.returncode == 0, done.err
    rows = json.loads(done.out)
    assert [row[0] for row in rows] == [f"Question {n}" for n in range(40)]
    assert 0 < sum(row[3] for row in rows) <= 0.02e9
    by_status = {status: [row for row in rows if row[1] == status] for status in {row[1] for row in rows}}
    assert set(by_status) == {"succeeded", "cancelled"}
    assert all(row[2].startswith("cancelled: cap of batch python-") for row in by_status["cancelled"])
    assert tasks_by_status(tmp_path, env) == {status: len(found) for status, found in by_status.items()}


@pytest.mark.parametrize(
    "single", ["hello", b"x", {"prompt": "hello"}, Task("t", "b", (Message("user", "x"),)), 5]
)
def test_a_single_task_is_refused_with_the_list_that_it_needs(single: Any) -> None:
    with pytest.raises(InputError, match=r"a list or stream of tasks, not \w+; a single one is \[task\]"):
        answer(single)


def left_open(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "state" / "live.db")) as database:
        query = "SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')"
        return int(database.execute(query).fetchone()[0])


@pytest.mark.parametrize("is_kept", [True, False])
def test_calls_from_several_threads_of_one_process_are_all_answered(
    is_kept: bool, here: Path, simulator: SimulatorProcess
) -> None:
    """Four at once out of a running event loop, and one in it, which blocks it meanwhile."""
    kept = {"state_dir": "state"} if is_kept else {}

    async def all_at_once() -> list[list[Result]]:
        others = [
            asyncio.create_task(asyncio.to_thread(answer, [f"{n}a", f"{n}b"], **kept)) for n in range(4)
        ]
        await asyncio.sleep(0)  # they begin
        return [answer(["4a", "4b"], **kept), *(await asyncio.gather(*others))]

    results = asyncio.run(all_at_once())
    prompts = [[each.task.messages[0].content for each in some] for some in results]
    assert prompts == [[f"{n}a", f"{n}b"] for n in (4, 0, 1, 2, 3)]
    assert all(each.status == "succeeded" for some in results for each in some)
    assert simulator.stats()["openai"]["calls"] == 10
    assert left_open(here) == 0 if is_kept else not any(here.iterdir())


@pytest.mark.usefixtures("here")
def test_a_call_waits_for_the_calls_of_other_threads_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "OWN_POOL_WAIT_S", 0.0)
    with ThreadPoolExecutor(3) as threads:
        found = [threads.submit(answer, [f"{n}?"], state_dir="state") for n in range(3)]
        assert [result.status for each in found for result in each.result()] == ["succeeded"] * 3


def test_a_call_inside_of_another_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "OWN_POOL_WAIT_S", 0.0)
    with pytest.raises(StoreError, match="another pool of this program is open on it"):
        answer(["a?"], state_dir="state", on_progress=lambda _: answer(["b?"], state_dir="state"))
    assert left_open(here) == 0


def test_a_call_that_fails_leaves_no_task_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SimulatorProcess.start({"providers": {"openai": {"keys": ["the-right-one"]}}}) as simulator:
        for name, value in live_environment(simulator.base_urls, only=["openai"]).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(
            KeyRejected, match=r"^openai rejected OPENAI_API_KEY \(401 invalid_api_key\)$"
        ) as caught:
            answer(["one", "two"], state_dir="state")
    assert caught.value._render_traceback_() == [f"KeyRejected: {caught.value}"]
    assert left_open(tmp_path) == 0


def cyclic() -> dict[str, Any]:
    found: dict[str, Any] = {"list": []}
    found["list"].append(found)
    return found


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"d": found}
    return found


def doubled(times: int) -> dict[str, Any]:
    found: list[Any] = []
    for _ in range(times):
        found = [found, found]
    return {"d": found}


NO_JSON: dict[str, tuple[Any, str]] = {
    "a time": ({"t": datetime.now(UTC)}, "'metadata.t' is of type datetime, which JSON has no form for"),
    "a set in a list": ({"a": [{"b": {1}}]}, "'metadata.a[0].b' is of type set"),
    "bytes": ({"b": b"x"}, "'metadata.b' is of type bytes"),
    "a decimal": ({"b": Decimal(1)}, "'metadata.b' is of type Decimal"),
    "a path": ({"b": Path("x")}, "'metadata.b' is of type PosixPath"),
    "a function": ({"f": print}, "'metadata.f' is of type builtin_function_or_method"),
    "a view of a mapping": ({"m": MappingProxyType({})}, "'metadata.m' is of type mappingproxy"),
    "NaN": ({"n": math.nan}, "'metadata.n' must be a finite number, not nan"),
    "infinity": ({"n": [0, -math.inf]}, "'metadata.n[1]' must be a finite number, not -inf"),
    "too large a float": ({"n": 1e400}, "'metadata.n' must be a finite number, not inf"),
    "too large a number": ({"n": -(10**5000)}, "'metadata.n' is a number of more than 4,000 digits"),
    "a number as key": ({"a": {1: "x"}}, "key 1 in 'metadata.a' is of type int; keys are text"),
    "a tuple as key": ({(1, 2): "x"}, "key (1, 2) in 'metadata' is of type tuple"),
    "a cycle": (cyclic(), "'metadata.list[0]' contains itself"),
    "no end": (deep(200), "'metadata' is nested deeper than 100 levels"),
    "doubled again and again": (doubled(60), "'metadata' holds more than 1,000,000 values"),
    "a surrogate": ({"s": ["\ud83d"]}, "'metadata.s[0]' contains half of a surrogate pair"),
    "a surrogate as key": ({"\udcff": 1}, "key '\\udcff' in 'metadata' contains half of a surrogate pair"),
    "a line end in a key": ({"a\nb": {1}}, "'metadata.a\\nb' is of type set"),
}


@pytest.mark.parametrize(("metadata", "reason"), NO_JSON.values(), ids=NO_JSON)
def test_metadata_that_json_cannot_hold_is_refused_with_its_path(
    tmp_path: Path, metadata: Any, reason: str
) -> None:
    with pytest.raises(InputError) as caught:
        answer(["fine", {"prompt": "x", "metadata": metadata}], simulate=True, state_dir=tmp_path / "state")
    assert str(caught.value).startswith("task 2: ") and reason in str(caught.value)
    assert not (tmp_path / "state").exists()


NO_TASKS: dict[str, tuple[Any, str]] = {
    "a number": (5, "task 1: must be a prompt, a mapping such as {'prompt': ...}, or a Task, not int"),
    "nothing": (None, "task 1: must be a prompt, a mapping"),
    "bytes": (b"x", "task 1: must be a prompt, a mapping such as {'prompt': ...}, or a Task, not bytes"),
    "bytes as prompt": ({"prompt": b"x"}, "task 1: 'prompt' is of type bytes"),
    "a number as key": ({"prompt": "x", 7: "y"}, "task 1: key 7 is of type int"),
    "a time as deadline": ({"prompt": "x", "deadline": datetime.now(UTC)}, "'deadline' is of type date"),
    "NaN as temperature": ({"prompt": "x", "temperature": math.nan}, "'temperature' must be a finite number"),
    "a schema without an end": (
        {"prompt": "x", "response_schema": {"maximum": 1e400}},
        "'response_schema.maximum' must be a finite number, not inf",
    ),
    "a set of messages": ({"messages": {"x"}}, "'messages' is of type set"),
    "a surrogate": ({"prompt": "no key \ud83d here"}, "'prompt' contains half of a surrogate pair"),
    "a surrogate in a message": (
        {"messages": [{"role": "user", "content": "\udc00"}]},
        "'messages[0].content' contains half of a surrogate pair",
    ),
    "NUL in a name": ({"prompt": "x", "task_type": "a\0"}, "'task_type' must not contain control characters"),
    "an escape in a model": ({"prompt": "x", "models": ["gpt-4\x1b[2J"]}, "'models' must not contain"),
    "NUL in an id": ({"prompt": "x", "id": "a\0"}, "'id' must not contain control characters"),
}  # fmt: skip


@pytest.mark.parametrize(("task", "reason"), NO_TASKS.values(), ids=NO_TASKS)
def test_an_invalid_task_is_refused_with_its_number_and_key(tmp_path: Path, task: Any, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        answer([task], simulate=True, state_dir=tmp_path / "state")
    assert reason in str(caught.value)
    assert not (tmp_path / "state").exists()


def test_a_duplicate_id_is_refused(tmp_path: Path) -> None:
    tasks = [{"id": "u", "prompt": "A"}, {"id": "u", "prompt": "B"}, {"id": "v", "prompt": "C"}]
    with pytest.raises(InputError, match="task 2: duplicate id 'u': an earlier task has it"):
        answer(tasks, simulate=True, state_dir=tmp_path / "state")
    with pytest.raises(InputError, match="task 3: duplicate id '7': an earlier task has it"):
        answer([{"id": 7, "prompt": "A"}, "B", {"id": "7", "prompt": "A"}], simulate=True)
    assert not (tmp_path / "state").exists()


def test_results_keep_the_order_of_their_tasks_whatever_the_ids(tmp_path: Path) -> None:
    tasks = [{"id": 2, "prompt": "A"}, "B\0C", {"id": "2-2", "prompt": "D", "metadata": {"t": (1, 2)}}, "E"]
    results = answer(tasks, simulate=True, state_dir=tmp_path / "state")
    assert [each.task.messages[0].content for each in results] == ["A", "B\0C", "D", "E"]
    assert [each.task.id for each in results] == ["2", "task-1", "2-2", "task-2"]
    assert answer([], simulate=True, state_dir=tmp_path / "state") == []


def test_an_invalid_cap_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    done = run_program(tmp_path, "0", env)
    assert done.process.returncode != 0 and "max_cost_usd is 0.0; it must be above 0" in done.err


WRONG_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "cap as text": ({"max_cost_usd": "1"}, "max_cost_usd is '1'; it must be above 0"),
    "cap that is true": ({"max_cost_usd": True}, "max_cost_usd is True; it must be above 0"),
    "cap that is no number": ({"max_cost_usd": math.nan}, "max_cost_usd is nan; it must be above 0"),
    "cap beyond all": ({"max_cost_usd": 1e300}, "it must be above 0, and at most 1,000,000,000"),
    "no function": ({"on_progress": 5}, "on_progress is 5; it must be a function"),
    "name that is a number": ({"run_name": 5}, "run_name is 5; it must be text"),
    "empty name": ({"run_name": ""}, "run_name needs 1 to 500 characters, not 0"),
    "empty folder": ({"state_dir": ""}, "state_dir is ''; it must be the path of a folder"),
    "settings as a mapping": (
        {"config": {"pool": 1}},
        "config is {'pool': 1}; it must be the path of a file",
    ),
    "models as a number": ({"models": 5}, "models must be a list, not the number 5"),
    "choices as a word": ({"choices": "yes"}, "choices must be a list, not text"),
    "choices as a number": ({"choices": 5}, "choices must be a list, not the number 5"),
}


@pytest.mark.parametrize(("options", "said"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS.keys())
def test_an_option_of_another_kind_is_refused_before_anything_is_asked(
    options: dict[str, Any], said: str, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in live_environment(simulator.base_urls).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused:
        answer(["x"], **options)
    assert said in str(refused.value)
    assert not any(provider["calls"] for provider in simulator.stats().values())


def test_several_values_may_be_a_tuple_in_a_task_and_in_options() -> None:
    task = {"prompt": "x", "choices": ("a", "b"), "models": ("gpt-6-luna",)}
    for given, options in ((task, {}), ("x", {"choices": ("a", "b"), "models": ("gpt-6-luna",)})):
        [result] = answer([given], simulate=True, **options)
        assert (result.model, json.loads(result.output or "")["choice"] in "ab") == ("gpt-6-luna", True)


def test_a_cap_beside_a_server_is_refused_before_a_task_is_stored(
    tmp_path: Path, env: dict[str, str], simulator: SimulatorProcess
) -> None:
    with Script("--log-level", "info", cwd=tmp_path, env=env) as server:
        server.wait_for("ready after")
        done = run_program(tmp_path, "1", env)
        assert (
            done.process.returncode != 0 and "max_cost_usd does not apply to the running server" in done.err
        )
        assert tasks_by_status(tmp_path, env) == {}
        server.interrupt()
        assert server.wait() == 0, server.err
    assert simulator.stats()["openai"]["calls"] == 0
