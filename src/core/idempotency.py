"""Idempotency keys: a request with the key of an earlier one gets the answer of that one.

    key unknown, or its request failed, or is older than `KEPT_S`    the request runs
    key of a request that runs                                       it waits for that answer
    key of a request that was answered                               the stored answer
    key of a request with other content                              KeyReused

A key belongs to its submitter, within a batch. Its request has an id that is made of it, so that the store
finds it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from ..errors import KeyReused
from ..records import Completion, FinishReason, Placement, Result, Task, TaskStatus
from ..stream_events import Finished, deltas_of
from .open_requests import Delivery, DirectAnswer
from .result_writer import ResultWriter
from .store import TaskDetail
from .store.codec import encode_task
from .store_session import StoreSession

KEPT_S = 86_400.0
MOST_TRIES = 20  # requests with one key that failed

_Ask = Callable[[Task], Awaitable[DirectAnswer]]


@dataclass(slots=True)
class _Running:
    digest: bytes
    answer: asyncio.Future[DirectAnswer]


class IdempotencyKeys:
    """Requests by their keys. For the event loop's thread."""

    def __init__(self, session: StoreSession, result_writer: ResultWriter, *, available: bool) -> None:
        self._session, self._writer, self._available = session, result_writer, available
        self._running: dict[tuple[str, str], _Running] = {}  # until their answers are stored

    def __len__(self) -> int:
        return len(self._running)

    async def ask(self, key: str, task: Task, delivery: Delivery | None, ask: _Ask) -> DirectAnswer:
        """The answer of the request with this key: by `ask`, or of an earlier one.

        An earlier answer costs nothing and goes to the `delivery` at once. Raises KeyReused, and what `ask`
        raises.
        """
        if not self._available:
            raise KeyReused('idempotency keys need stored answers: [gateway] store_content = "all"')
        digest, task_id = encode_task(task)[0], _id_of(key, task.submitter)
        while (running := self._running.get((task.batch, task_id))) is not None:
            _check(running.digest, digest)
            await asyncio.wait([running.answer])
            if not running.answer.cancelled():
                return await _again(running.answer.result(), delivery)
        running = _Running(digest, asyncio.get_running_loop().create_future())
        self._running[task.batch, task_id] = running
        is_answered = False
        try:
            earlier, free_id = await self._look_up(task, task_id, digest)
            if earlier is not None:
                running.answer.set_result(earlier)
                return await _again(earlier, delivery)
            answer = await ask(replace(task, id=free_id))
            running.answer.set_result(answer)
            is_answered = True
            return answer
        except Exception as error:
            if not running.answer.done():
                running.answer.set_exception(error)
                running.answer.exception()  # perhaps nobody waits for it
            raise
        finally:
            running.answer.cancel()  # no effect on one that is done
            if is_answered:
                self._writer.once_stored(partial(self._forget, task.batch, task_id))
            else:
                self._forget(task.batch, task_id)

    def _forget(self, batch: str, task_id: str) -> None:
        del self._running[batch, task_id]

    async def _look_up(self, task: Task, task_id: str, digest: bytes) -> tuple[DirectAnswer | None, str]:
        """The stored answer of an earlier request, and the id that the next one gets."""
        ids = [task_id, *(f"{task_id}-{n}" for n in range(2, MOST_TRIES + 1))]
        insist, tasks = self._session.thread.insist, self._session.store.tasks
        known = await insist(tasks.statuses, task.batch, ids)
        newest = next((each for each in reversed(ids) if each in known), None)
        if newest is None:
            return None, task_id
        detail = await insist(tasks.find, task.batch, newest)
        since = self._session.clock.now() - KEPT_S
        result = detail.result if detail is not None and not detail.is_purged else None
        if detail is not None and result is not None and result.finished_at >= since:
            _check(encode_task(detail.task)[0], digest)
            if result.status is TaskStatus.SUCCEEDED:
                return _stored(detail, result), newest
        if newest == ids[-1]:
            raise KeyReused(f"{MOST_TRIES} requests have had this idempotency key")
        return None, ids[ids.index(newest) + 1]


def _id_of(key: str, submitter: str) -> str:
    named = f"{submitter}\0{key}".encode("utf-8", "surrogatepass")
    return f"key-{hashlib.blake2b(named, digest_size=16).hexdigest()}"


def _check(known: bytes, digest: bytes) -> None:
    if known != digest:
        raise KeyReused("the idempotency key stands for a request with other content")


def _stored(detail: TaskDetail, result: Result) -> DirectAnswer:
    """The answer as it was, from the store."""
    final = result.attempts[-1]
    completion = Completion(
        text=result.output or "",
        finish_reason=FinishReason(result.finish_reason),
        usage=final.usage,
        model=final.model,
        warnings=result.warnings,
        parts=result.parts,
    )
    placement = Placement(
        permit=0,
        task=detail.task,
        provider=final.provider,
        model=final.model,
        group=final.model,
        tier=result.tier,
        agent=final.agent,
        max_tokens=final.max_tokens,
        choice=final.choice,
        reasons=final.reasons,
        at=final.started_at,
        timeout_s=0.0,
        attempt=final.number,
    )
    return DirectAnswer(completion, placement, 0, 0, 0.0, detail.task.id)


async def _again(answer: DirectAnswer, delivery: Delivery | None) -> DirectAnswer:
    """An answer once more. No call was made for it."""
    if delivery is not None:
        await delivery.begin(answer.placement)
        for event in deltas_of(answer.completion):
            await delivery.send(event)
        await delivery.send(Finished(answer.completion))
    return answer._replace(cost_nanos=0, attempts=0, waited_s=0.0)
