"""Where attempts and ends of tasks go: to the result writer, and direct ones to their submitter first.

A direct task is in the store only when it has ended. Its attempts are kept until then by the scheduler, and
what they have reserved stays reserved until they are stored: a crash books that as uncertain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..access import is_loopback
from ..records import Attempt, Completion, Result, Task, TaskStatus
from ..settings import GatewaySettings
from .open_requests import OpenRequest, OpenRequests
from .result_writer import ResultWriter
from .store import DirectRecord

# A request that was declined or cancelled before any call leaves no trace.
_STORED_WITHOUT_A_CALL = (TaskStatus.EXPIRED, TaskStatus.FAILED)


ContentsKept = Literal["none", "errors", "all"]


def contents_kept(settings: GatewaySettings) -> ContentsKept:
    """Which requests are stored with prompt and answer: none, those that failed, or all."""
    if settings.store_content == "auto":
        return "errors" if is_loopback(settings.host) else "none"
    return settings.store_content


class TaskEnds:
    """Takes what the scheduler and the calls bring. For the event loop's thread."""

    def __init__(self, result_writer: ResultWriter, requests: OpenRequests, kept: ContentsKept) -> None:
        self._writer, self.requests, self._kept = result_writer, requests, kept

    def attempt(self, task: Task, attempt: Attempt) -> None:
        """A call of a task that goes on has ended."""
        if self.requests.get(task) is None:
            self._writer.add_attempt(task, attempt)

    def ended(self, result: Result, completion: Completion | None = None, *, kept: bool = False) -> None:
        """A task has ended, with the answer of its last call. `kept`: see `ResultWriter.add_result`."""
        request = self.requests.get(result.task)
        if request is None:
            self._writer.add_result(result, kept=kept)
            return
        request.resolve(result, completion)
        self.requests.end(request)
        if result.attempts or (result.status in _STORED_WITHOUT_A_CALL and result.declined is None):
            self._writer.add_direct(DirectRecord(result, self._keeps_content(result)))
        for release in request.releases:
            self._writer.once_stored(release)

    def _keeps_content(self, result: Result) -> bool:
        if self._kept == "errors":
            return result.status not in (TaskStatus.SUCCEEDED, TaskStatus.CANCELLED)
        return self._kept == "all"

    def release_once_stored(self, request: OpenRequest | None, release: Callable[[], None]) -> None:
        """Call `release` when the attempts so far of the request, or of a claimed task, are stored."""
        if request is not None and self.requests.get(request.task) is request:
            request.releases.append(release)
        else:
            self._writer.once_stored(release)
