"""Bodies and queries of requests, validated. Unknown keys are errors; strings are not taken for numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from flask import request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..core.intake import QUEUE, TaskFields, check_batch_name, parse_json
from ..errors import InputError
from ..records import TaskStatus
from .problems import Problem, from_validation
from .task_states import TaskState

Model = TypeVar("Model", bound=BaseModel)
MAX_TASKS = 10_000  # in one request; a file may hold more
MAX_WAIT_S = 300.0
MAX_ROW = 2**63 - 1  # the largest integer of the databases
MAX_TIMESTAMP = 1e11  # epoch seconds: year 5138


def _batch_name(name: str) -> str:
    try:
        return check_batch_name(name)
    except InputError as error:
        raise ValueError(error.what) from None


BatchName = Annotated[str, AfterValidator(_batch_name)]
PresetName = Literal["default", "equal", "performance", "price", "suggested"]
Grouping = Literal["provider", "model", "task_type", "submitter", "minute", "hour", "day"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _weight(weight: float) -> float:
    if not math.isfinite(weight):
        raise ValueError("must be a finite number")
    if weight < 0:
        raise ValueError("must not be negative")
    return weight


Weight = Annotated[float, Field(strict=True), AfterValidator(_weight)]


class RebalanceBody(_Body):
    """Exactly one of `weights`, `preset` and `version`, the number of an earlier change to restore."""

    weights: Mapping[str, Weight] | None = None
    preset: PresetName | None = None
    version: Annotated[int, Field(ge=1, strict=True)] | None = None
    dry_run: Annotated[bool, Field(strict=True)] = False

    @field_validator("weights")
    @classmethod
    def _are_weights(cls, weights: Mapping[str, float] | None) -> Mapping[str, float] | None:
        if weights is None:
            return None
        if not any(weights.values()):
            raise ValueError("at least one weight must be above 0")
        if not math.isfinite(sum(weights.values())):
            raise ValueError("the sum is not finite")
        return weights

    @model_validator(mode="after")
    def _says_one_thing(self) -> RebalanceBody:
        if sum(x is not None for x in (self.weights, self.preset, self.version)) != 1:
            raise ValueError("give exactly one of 'weights', 'preset' and 'version'")
        return self


class _RowSchema:
    """Documents a row as a task; `make_task` validates it, and names the row in its messages."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(TaskFields.__pydantic_core_schema__)


Row = Annotated[dict[str, Any], _RowSchema]


class SubmitManyBody(_Body):
    """`tasks` are rows as in a file of tasks; an error in one refuses all."""

    tasks: Annotated[list[Row], Field(min_length=1, max_length=MAX_TASKS)]
    batch: BatchName = QUEUE
    wait_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] = 0.0


class SubmitOneBody(TaskFields):
    """A row of a file of tasks, with the batch that it belongs to."""

    batch: BatchName = QUEUE
    wait_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] = 0.0


class BatchBody(_Body):
    batch: BatchName = QUEUE


class PurgeBody(_Body):
    """The tasks of `batch` that ended more than `older_than_days` ago; `dry_run` only counts them."""

    batch: BatchName
    older_than_days: Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)] = 0.0
    dry_run: Annotated[bool, Field(strict=True)] = False


class BatchQuery(_Body):
    """The query of the list of batches: a part of their names."""

    name: str = ""
    before: Annotated[int, Field(ge=1, le=MAX_ROW)] | None = None


def _or_empty(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"const": ""})


def _epoch_s(value: Any) -> Any:
    """Epoch seconds of a date, or of a date and time, in UTC; a number stays as it is."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return value
    at = datetime.fromisoformat(value.removesuffix("Z"))
    return at.replace(tzinfo=UTC).timestamp()


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z?)?")


def _or_date(schema: dict[str, Any]) -> None:
    schema["anyOf"] += [{"const": ""}, {"type": "string", "pattern": f"^{_DATE.pattern}$"}]


TimeOfQuery = Annotated[
    Annotated[float, Field(ge=0, le=MAX_TIMESTAMP, allow_inf_nan=False)] | None,
    BeforeValidator(_epoch_s),
    Field(json_schema_extra=_or_date),
]
Within = Literal["hour", "day", "week", "month"]
WITHIN_S: Mapping[Within, float] = {"hour": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2592000.0}
MAX_SEARCH_CHARS = 1_000


class ListQuery(_Body):
    """The query of a list."""

    def in_query(self) -> dict[str, Any]:
        """The filters alone, as the query of a link."""
        given = self.model_dump(mode="json", exclude_defaults=True, exclude={"before", "after", "limit"})
        return {name: value for name, value in given.items() if value != ""}


def _in_order(until: float | None, info: ValidationInfo) -> float | None:
    """`until`, unless a list from `since` to it has no time in it."""
    since = info.data.get("since")
    if until is not None and since is not None and until < since:
        raise ValueError("is earlier than since")
    return until


class _TimedQuery(ListQuery):
    """`since` and `until` are epoch seconds, or a date and time in UTC; `within` is the last hour, ..."""

    within: Annotated[Within | None, Field(json_schema_extra=_or_empty)] = None
    since: TimeOfQuery = None
    until: TimeOfQuery = None

    @field_validator("within", "since", "until", mode="before")
    @classmethod
    def _empty_is_any_time(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("until")
    @classmethod
    def _is_no_earlier_than_since(cls, until: float | None, info: ValidationInfo) -> float | None:
        return _in_order(until, info)

    def begins_at(self, now: float) -> float | None:
        """The earliest time that is wanted, in epoch seconds."""
        since = None if self.within is None else now - WITHIN_S[self.within]
        return max((at for at in (since, self.since) if at is not None), default=None)


class TaskFilter(_TimedQuery):
    """The query of a list of tasks; an empty value means any.

    `q` are words of prompt and answer. `since`, `until` and `within` bound the time of submission. With
    `order=oldest` the next page is `after` a row.
    """

    q: Annotated[str, Field(max_length=MAX_SEARCH_CHARS)] = ""
    status: Annotated[
        TaskStatus | TaskState | Literal["truncated"] | None, Field(json_schema_extra=_or_empty)
    ] = None
    type: str = ""
    provider: str = ""
    model: str = ""
    batch: str = ""
    submitter: str = ""
    id: str = ""
    order: Literal["newest", "oldest"] = "newest"
    before: Annotated[int, Field(ge=1, le=MAX_ROW)] | None = None
    after: Annotated[int, Field(ge=0, le=MAX_ROW)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50

    @field_validator("status", mode="before")
    @classmethod
    def _empty_is_any(cls, value: Any) -> Any:
        return None if value == "" else value

    @property
    def state(self) -> TaskStatus | TaskState | None:
        """The status or state that is wanted; None: any."""
        return None if self.status == "truncated" else self.status


class ExportQuery(TaskFilter):
    """The query of an export: a list of tasks, with their prompts beside the answers or without."""

    prompts: bool = False


def _names(schema: dict[str, Any]) -> None:
    """Each at most once; empty parts are left out."""
    schema["uniqueItems"] = True
    schema["items"]["enum"].append("")


class UsageQuery(_Body):
    """`since` and `until` are epoch seconds; the default is the last day."""

    since: Annotated[float, Field(ge=0, le=MAX_TIMESTAMP, allow_inf_nan=False)] | None = None
    until: Annotated[float, Field(ge=0, le=MAX_TIMESTAMP, allow_inf_nan=False)] | None = None
    by: Annotated[tuple[Grouping, ...], Field(max_length=7, json_schema_extra=_names)] = ("provider",)

    @field_validator("by", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        names = value.split(",") if isinstance(value, str) else value
        if len(set(names)) != len(names):
            raise ValueError("name each grouping only once")
        return [name for name in names if name != ""]


EventLevel = Literal["info", "warning", "alert"]


class EventsQuery(_TimedQuery):
    """The query of the events; an empty value means any.

    `about` is a part of the message, a task's id or a batch. Newest first, the next page is `before` an id;
    with `after` those that follow this id come, oldest first.
    """

    kind: str = ""
    level: Annotated[EventLevel | None, Field(json_schema_extra=_or_empty)] = None
    provider: str = ""
    about: Annotated[str, Field(max_length=300)] = ""
    before: Annotated[int, Field(ge=1, le=MAX_ROW)] | None = None
    after: Annotated[int, Field(ge=0, le=MAX_ROW)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    @field_validator("level", mode="before")
    @classmethod
    def _empty_is_any(cls, value: Any) -> Any:
        return None if value == "" else value


class ProviderBatchQuery(ListQuery):
    """The query of the batches at providers, newest first; an empty value means any.

    `open` batches are those for which something is left to do. The next page is `before` a number.
    """

    provider: str = ""
    state: Literal["", "open"] = ""
    before: Annotated[int, Field(ge=1, le=MAX_ROW)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50


CostGrouping = Literal["day", "provider", "model", "task_type", "submitter"]
CostRange = Literal["today", "week", "month", "quarter", "year"]


class CostQuery(ListQuery):
    """`range` ends now; `since` and `until` are the first and the last UTC day instead."""

    by: CostGrouping = "provider"
    range: CostRange = "month"
    since: TimeOfQuery = None
    until: TimeOfQuery = None

    @field_validator("since", "until", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("until")
    @classmethod
    def _is_no_earlier_than_since(cls, until: float | None, info: ValidationInfo) -> float | None:
        return _in_order(until, info)


def json_body() -> Any:
    """The request's JSON, by the rules of a task file. Raises Problem 415 for another type, 400 otherwise."""
    if not request.is_json:
        raise Problem(415, "unsupported_media_type", "Send this as application/json.")
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "unsupported_media_type", "Send this without a Content-Encoding.")
    try:
        return parse_json(request.get_data(cache=False).decode("utf-8-sig"))
    except InputError as error:
        raise Problem(400, "bad_json", f"The body is refused: {error.what}") from None
    except UnicodeDecodeError as error:
        raise Problem(400, "bad_json", f"The body is not UTF-8 at byte {error.start + 1}.") from None


def body_of(model: type[Model]) -> Model:
    """The request's JSON as `model`. Raises Problem or pydantic's ValidationError, which becomes 422."""
    return model.model_validate(json_body())


def query_of(model: type[Model]) -> Model:
    """The request's query as `model`."""
    return model.model_validate(request.args.to_dict())


def query_or_default(model: type[Model]) -> tuple[Model, Problem | None]:
    """The request's query, for a page, and what is wrong with it; wrong fields have their default."""
    given = request.args.to_dict()
    try:
        return model.model_validate(given), None
    except ValidationError as error:
        problem, wrong = from_validation(error), {each["loc"][0] for each in error.errors()}
    return model.model_validate({name: value for name, value in given.items() if name not in wrong}), problem
