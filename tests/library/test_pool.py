"""`Pool`: tasks and streams over real HTTP, its state, its ends."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from src import (
    InputError,
    KeyRejected,
    Message,
    Pool,
    PoolClosed,
    Progress,
    StoreError,
    Task,
    answer,
)
from src.core.store import Store
from src.library import lead
from src.library.pool import AHEAD
from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment

SLOW = {"providers": {"openai": {"latency": {"first_token_s": 2.0, "per_token_s": 0.0}}}}
SILENT = {"providers": {"openai": {"latency": {"first_token_s": 60.0, "per_token_s": 0.0}}}}


@pytest.fixture
def live(simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch) -> SimulatorProcess:
    """Quick providers behind real keys, so that dollars count."""
    use(simulator, monkeypatch)
    return simulator


def use(simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in live_environment(simulator.base_urls, only=["openai"]).items():
        monkeypatch.setenv(name, value)


def calls_to(simulator: SimulatorProcess) -> int:
    return int(simulator.stats()["openai"]["calls"])


def statuses(database: Path) -> Counter[str]:
    with closing(sqlite3.connect(database)) as connection:
        return Counter(dict(connection.execute("SELECT status, count(*) FROM tasks GROUP BY status")))


async def slowly(tasks: list[str]) -> AsyncIterator[str]:
    for task in tasks:
        await asyncio.sleep(0)
        yield task


# ------------------------------------------------------------------ tasks and streams


async def test_a_result_has_model_cost_and_usage(live: SimulatorProcess) -> None:
    async with Pool() as pool:
        result = await pool.answer({"id": "sky", "prompt": "Why is the sky blue?", "metadata": {"row": 7}})
    assert (result.status, result.provider, result.task.metadata) == ("succeeded", "openai", {"row": 7})
    assert result.model.startswith("gpt-") and result.usage.output_tokens > 0
    assert result.cost_usd is not None and 0 < result.cost_usd < 0.01


async def test_streams_and_tasks_share_a_pool_at_the_same_time(live: SimulatorProcess) -> None:
    async def asked(tasks: Any) -> set[str]:
        return {result.task.messages[-1].content async for result in pool.answers(tasks)}

    several = [[f"{name}{number}" for number in range(30)] for name in "ab"]
    async with Pool() as pool:
        first, second, single = await asyncio.gather(
            asked(several[0]), asked(slowly(several[1])), pool.answer("c")
        )
    assert [first, second] == [set(each) for each in several] and single.status == "succeeded"
    assert calls_to(live) == 61


async def test_a_task_of_a_result_can_be_asked_again(live: SimulatorProcess) -> None:
    asks = {
        "id": "again",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "choices": ["yes", "no"],
        "max_tokens": 50,
        "metadata": {"row": 1},
        "deadline": 600,
    }
    async with Pool() as one, Pool() as other:
        first = await one.answer(asks)
        second = await other.answer(first.task)
    assert first.task.deadline_at and second.task.deadline_at
    assert second.task.deadline_at == pytest.approx(first.task.deadline_at, abs=0.01)
    for name in ("id", "messages", "response_schema", "max_tokens", "metadata"):
        assert getattr(first.task, name) == getattr(second.task, name)
    assert first.status == second.status == "succeeded"


async def test_options_of_a_pool_set_fields_of_tasks_that_do_not(live: SimulatorProcess) -> None:
    rows = [
        "Hi",
        {"prompt": "Ho", "max_tokens": 9, "system": "Mine."},
        Task("x", "", (Message("user", "Hu"),)),
    ]
    async with Pool(models="gpt-6-luna", max_tokens=50, system="Be brief.", agent="gpt-engineer") as pool:
        plain, own, given = [await pool.answer(row) for row in rows]
    assert {result.model for result in (plain, own, given)} == {"gpt-6-luna"}
    assert [result.task.max_tokens for result in (plain, own, given)] == [50, 9, 50]
    systems = [result.task.messages[0].content for result in (plain, own, given)]
    assert systems == ["Be brief.", "Mine.", "Be brief."]
    assert {result.attempts[0].agent for result in (plain, own, given)} == {"gpt-engineer"}


def test_options_are_no_part_of_an_id(live: SimulatorProcess) -> None:
    first, _ = (answer(["Hi"], run_name=name, **more)[0] for name, more in (("a", {}), ("b", {"seed": 1})))
    again = answer(["Hi"], run_name="b", seed=1)[0]
    assert first.task.id == again.task.id and calls_to(live) == 2
    with pytest.raises(InputError, match="its content differs from that in the earlier run"):
        answer(["Hi"], run_name="b", seed=2)


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"temperature": 3.0}, InputError, "temperature must be at most 2, not 3"),
        ({"models": "gpt-6-lunaa"}, InputError, "models: unknown model 'gpt-6-lunaa'"),
        ({"agent": "nobody"}, InputError, "unknown agent 'nobody'; choose from claude-analyst"),
        ({"choices": ["a"], "response_schema": {}}, InputError, "both response_schema and choices are given"),
        ({"model": "gpt-6-luna"}, TypeError, "unknown option 'model'; did you mean 'models'?"),
    ],
    ids=["temperature", "model", "agent", "two forms", "name"],
)
def test_an_invalid_option_is_refused_by_its_name(
    options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=re.escape(reason)):
        Pool(simulate=True, **options)


async def test_a_stream_is_read_only_so_far_ahead(live: SimulatorProcess) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in count(1):
            yield f"Question {read}?"

    async with Pool() as pool, aclosing(pool.answers(endless())) as stream:
        for taken in range(1, 4):
            await anext(stream)
            while read < AHEAD + taken:
                await asyncio.sleep(0.01)
            assert read == AHEAD + taken, "one more for each that is taken"


async def test_an_invalid_task_is_raised_after_the_results_before_it(live: SimulatorProcess) -> None:
    found = []
    async with Pool() as pool:
        with pytest.raises(InputError, match=r"^task 3: unknown key 'promt'; did you mean 'prompt'\?$"):
            async for result in pool.answers(["a", "b", {"promt": "c"}, "d"]):
                found += [result.task.messages[-1].content]
    assert sorted(found) == ["a", "b"] and calls_to(live) == 2


async def test_an_error_of_the_stream_itself_is_passed_on(live: SimulatorProcess) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "a"
        raise OSError("the file is gone")

    found = []
    async with Pool() as pool:
        with pytest.raises(OSError, match="the file is gone"):
            async for result in pool.answers(broken()):
                found += [result.status]
        assert (await pool.answer("b")).status == "succeeded", "the pool goes on"
    assert found == ["succeeded"]


async def test_progress_counts_before_each_result_is_passed_on(live: SimulatorProcess) -> None:
    seen: list[Progress] = []
    async with Pool(on_progress=seen.append) as pool:
        async for _ in pool.answers(["a", "b", "c"]):
            assert threading.current_thread() is threading.main_thread()
        result = await pool.answer("d")
    assert [each.ended for each in seen] == [each.answered for each in seen] == [1, 2, 3, 4]
    assert seen[-1].submitted == 4
    assert seen[-1].cost_usd - seen[-2].cost_usd == pytest.approx(result.cost_usd)


# ------------------------------------------------------------------ cancelled and closed early


async def test_a_stream_that_is_closed_early_loses_nothing_that_was_paid(
    tmp_path: Path, live: SimulatorProcess
) -> None:
    prompts = [f"Question {number}?" for number in range(600)]
    async with Pool(run_name="mine") as pool:
        async for _ in pool.answers(prompts):
            break
    paid = calls_to(live)
    left = statuses(tmp_path / "state" / "live.db")
    assert left == {"succeeded": paid, "cancelled": left["cancelled"]} and left["cancelled"] > 0
    async with Pool(run_name="mine") as pool:
        again = [result async for result in pool.answers(prompts)]
    assert Counter(result.status for result in again) == {"succeeded": 600}
    assert calls_to(live) == 600, "no answer was paid for twice"


async def test_tasks_that_are_cancelled_on_the_pages_come_back_cancelled(
    tmp_path: Path, live: SimulatorProcess
) -> None:
    """The pages cancel in the database what the pool has not claimed yet."""
    waiting = asyncio.create_task(asyncio.to_thread(answer, ["Why?"] * 2_400, run_name="mine"))
    while not calls_to(live):
        await asyncio.sleep(0.02)
    with Store.open(tmp_path / "state" / "live.db", simulated=False) as store:
        [batch] = store.reports.batches()
        cancelled = store.admin.cancel(batch.name, now=time.time())
    found = Counter(result.status for result in await waiting)
    assert cancelled and found == {"succeeded": 2_400 - cancelled, "cancelled": cancelled}


async def test_a_cancelled_answer_leaves_the_pool_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatorProcess.start(SLOW) as simulator:
        use(simulator, monkeypatch)
        async with Pool() as pool:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await pool.answer("a")
            assert (await pool.answer("b")).status == "succeeded"


async def test_leaving_a_pool_waits_for_calls_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatorProcess.start(SILENT) as simulator:
        use(simulator, monkeypatch)

        async def leave() -> None:
            async with Pool() as pool:
                async with aclosing(pool.answers(["a"])) as stream:
                    waiting = asyncio.ensure_future(anext(stream))
                    while not calls_to(simulator):
                        await asyncio.sleep(0.05)
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)
                left.set()

        left = asyncio.Event()
        task = asyncio.create_task(leave())
        await left.wait()
        done, _ = await asyncio.wait({task}, timeout=0.5)
        assert not done, "a call is in flight"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not [each for each in threading.enumerate() if each.name == "pool"]


async def test_a_pool_is_used_while_it_is_open(live: SimulatorProcess) -> None:
    pool = Pool()
    with pytest.raises(PoolClosed, match="the pool is not open"):
        await pool.answer("a")
    async with pool:
        stream = pool.answers(slowly(["a"] * 2_000))
        await anext(stream)
    with pytest.raises(PoolClosed, match="the pool is closed"):
        async for _ in stream:
            pass
    with pytest.raises(PoolClosed, match="the pool is closed"):
        await pool.answer("a")
    with pytest.raises(PoolClosed, match="opened once"):
        await pool.__aenter__()


# ------------------------------------------------------------------ state


async def test_a_pool_without_a_name_leaves_nothing_behind(
    tmp_path: Path, live: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    async with Pool() as one, Pool() as other:
        await asyncio.gather(one.answer("a"), other.answer("b"))
        assert len(list((tmp_path / "temporary").iterdir())) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


async def test_a_run_answers_what_it_has_answered_without_a_call(live: SimulatorProcess) -> None:
    tasks = ["a", "a", {"id": "own", "prompt": "b"}, {"prompt": "c", "max_tokens": 100}]
    async with Pool(run_name="mine") as pool:
        first = {result.task.id: result async for result in pool.answers(tasks)}
    assert len(first) == 4, "equal prompts are tasks of their own"
    async with Pool(run_name="mine") as pool:
        again = {result.task.id: result async for result in pool.answers([*tasks, "new"])}
    assert {name: again[name].output for name in first} == {name: each.output for name, each in first.items()}
    assert len(again) == 5 and calls_to(live) == 5


async def test_other_content_under_a_known_id_is_refused(live: SimulatorProcess) -> None:
    answer([{"id": "a", "prompt": "one"}], run_name="mine")
    async with Pool(run_name="mine") as pool:
        with pytest.raises(InputError, match="id 'a': its content differs from that in the earlier run"):
            await pool.answer({"id": "a", "prompt": "two"})
        with pytest.raises(InputError, match="duplicate id 'a': an earlier task has it"):
            await pool.answer({"id": "a", "prompt": "one"})
    assert calls_to(live) == 1


async def test_a_cap_holds_for_all_pools_of_a_run(live: SimulatorProcess) -> None:
    prompts = [f"Question {number}? " + "More of it. " * 30 for number in range(40)]
    async with Pool(run_name="mine", max_cost_usd=0.01) as pool:
        first = [result async for result in pool.answers(prompts)]
        late = await pool.answer("One more? " + "More of it. " * 300)
    assert Counter(each.status for each in first).keys() == {"succeeded", "cancelled"}
    assert late.status == "cancelled" and "cap of batch mine" in late.error
    assert 0 < sum(each.cost_usd or 0 for each in first) <= 0.01
    async with Pool(run_name="mine", max_cost_usd=1.0) as pool:
        rest = [result async for result in pool.answers(prompts)]
    assert Counter(each.status for each in rest) == {"succeeded": 40}
    assert calls_to(live) == 40


@pytest.mark.parametrize("budgets", ["daily_usd = 5.0", "[budgets.submitters.alice]\ndaily_usd = 5.0"])
def test_budgets_have_the_state_kept(tmp_path: Path, live: SimulatorProcess, budgets: str) -> None:
    (tmp_path / "mine.toml").write_text(f"[budgets]\n{budgets}\n")
    answer(["a"], config="mine.toml")
    assert statuses(tmp_path / "state" / "live.db") == {"succeeded": 1}


def test_a_second_pool_on_a_kept_state_is_refused_after_a_while(
    live: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "OWN_POOL_WAIT_S", 0.3)

    async def nested() -> None:
        async with Pool(run_name="one"), Pool(run_name="other"):
            pass

    with pytest.raises(StoreError, match=r"another pool of this program is open on it; close that"):
        asyncio.run(nested())


async def test_a_server_answers_the_tasks_of_a_kept_pool(tmp_path: Path, live: SimulatorProcess) -> None:
    env = live_environment(live.base_urls, only=["openai"])
    with Script("--log-level", "info", cwd=tmp_path, env=env) as server:
        await asyncio.to_thread(server.wait_for, "ready after")
        async with Pool(run_name="mine") as pool:
            async with Pool(state_dir="state") as other:
                assert (await other.answer("c")).status == "succeeded"
            found = [result.status async for result in pool.answers(["a", "b"])]
            assert found == ["succeeded"] * 2
            server.interrupt()
            assert await asyncio.to_thread(server.wait) == 0, server.err
            assert "served 3 tasks" in server.err
            assert (await pool.answer("d")).status == "succeeded", "it goes on by itself"


# ------------------------------------------------------------------ keys


async def test_a_refused_key_is_one_line_for_every_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatorProcess.start({"providers": {"openai": {"keys": ["the-right-one"]}}}) as simulator:
        use(simulator, monkeypatch)
        async with Pool() as pool:
            ends = await asyncio.gather(*(pool.answer(each) for each in "abc"), return_exceptions=True)
            with pytest.raises(KeyRejected):
                async for _ in pool.answers(["d"]):
                    pass
    assert {(type(end), str(end)) for end in ends} == {
        (KeyRejected, "openai rejected OPENAI_API_KEY (401 invalid_api_key)")
    }
    assert len({id(end) for end in ends}) == 3, "each caller has an error of its own"


def test_answers_without_a_key_are_simulated_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="no API key was found: the answers are simulated") as caught:
        [result] = answer(["a"])
    assert result.status == "succeeded" and caught[0].filename == __file__
