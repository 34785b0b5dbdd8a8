"""Reading the fields of a body as strictly as its API does, with its words for what is wrong.

Both APIs name the field: OpenAI in `param` as `messages[0].content`, Anthropic at the start of the message as
`messages.0.content`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .base import FormatError, Json

_SHOWN_CHARS = 100  # of a value that is wrong


class Checks(ABC):
    """Typed fields of JSON objects. `where` is the path of the object that holds the field; "" is the body.

    Each reader gives None where the field is missing or null, and raises FormatError where it is wrong.
    """

    @abstractmethod
    def at(self, where: str, key: str | int) -> str:
        """The path of a field or an item."""

    @abstractmethod
    def missing(self, where: str) -> FormatError:
        """A field that has to be there."""

    @abstractmethod
    def wrong_type(self, where: str, expected: str, value: object) -> FormatError:
        """`expected`: string, number, integer, boolean, array of objects, object."""

    @abstractmethod
    def wrong_value(self, where: str, value: object, allowed: Iterable[str]) -> FormatError:
        """A value that is not allowed."""

    @abstractmethod
    def out_of_range(self, where: str, value: float, low: float, high: float) -> FormatError:
        """A number; `high` may be infinite."""

    @abstractmethod
    def refused(self, text: str, where: str, code: str = "") -> FormatError:
        """A rule of its own, in a sentence that begins with a capital."""

    def text(self, holder: Mapping[str, Any], key: str, where: str = "") -> str | None:
        """A string."""
        value = holder.get(key)
        if value is None or type(value) is str:
            return value
        raise self.wrong_type(self.at(where, key), "string", value)

    def required_text(self, holder: Mapping[str, Any], key: str, where: str = "") -> str:
        """A string that has to be there; it may be empty."""
        value = holder.get(key)
        if type(value) is str:
            return value
        raise self._not_there(value, self.at(where, key), "string")

    def flag(self, holder: Mapping[str, Any], key: str, where: str = "") -> bool | None:
        """A boolean."""
        value = holder.get(key)
        if value is None or type(value) is bool:
            return value
        raise self.wrong_type(self.at(where, key), "boolean", value)

    def number(self, holder: Mapping[str, Any], key: str, low: float, high: float) -> float | None:
        """A number of the body, integer or not."""
        value = holder.get(key)
        if value is None:
            return None
        if type(value) is not int and (type(value) is not float or not math.isfinite(value)):
            raise self.wrong_type(key, "number", value)
        if not low <= value <= high:
            raise self.out_of_range(key, value, low, high)
        return float(value)

    def integer(
        self, holder: Mapping[str, Any], key: str, low: float = -math.inf, high: float = math.inf
    ) -> int | None:
        """An integer of the body."""
        value = holder.get(key)
        if value is None:
            return None
        if type(value) is not int:
            raise self.wrong_type(key, "integer", value)
        if not low <= value <= high:
            raise self.out_of_range(key, value, low, high)
        return value

    def mapping(self, holder: Mapping[str, Any], key: str, where: str = "") -> Json | None:
        """An object."""
        value = holder.get(key)
        if value is None or type(value) is dict:
            return value
        raise self.wrong_type(self.at(where, key), "object", value)

    def required_mapping(self, holder: Mapping[str, Any], key: str, where: str = "") -> Json:
        """An object that has to be there."""
        value = holder.get(key)
        if type(value) is dict:
            return value
        raise self._not_there(value, self.at(where, key), "object")

    def objects(self, holder: Mapping[str, Any], key: str, where: str = "") -> list[Json] | None:
        """An array of objects."""
        value = holder.get(key)
        if value is None:
            return None
        path = self.at(where, key)
        if type(value) is not list:
            raise self.wrong_type(path, "array of objects", value)
        for i, each in enumerate(value):
            if type(each) is not dict:
                raise self.wrong_type(self.at(path, i), "object", each)
        return value

    def texts(self, holder: Mapping[str, Any], key: str) -> tuple[str, ...]:
        """An array of strings of the body; empty where it is missing."""
        value = holder.get(key)
        if value is None:
            return ()
        if type(value) is not list:
            raise self.wrong_type(key, "array of strings", value)
        for i, each in enumerate(value):
            if type(each) is not str:
                raise self.wrong_type(self.at(key, i), "string", each)
        return tuple(value)

    def choice(
        self, holder: Mapping[str, Any], key: str, allowed: Sequence[str], where: str = ""
    ) -> str | None:
        """One of the strings allowed."""
        value = self.text(holder, key, where)
        if value is not None and value not in allowed:
            raise self.wrong_value(self.at(where, key), value, allowed)
        return value

    def _not_there(self, value: object, path: str, expected: str) -> FormatError:
        return self.missing(path) if value is None else self.wrong_type(path, expected, value)


class OpenAIChecks(Checks):
    """The words of both OpenAI APIs."""

    def at(self, where: str, key: str | int) -> str:
        if isinstance(key, int):
            return f"{where}[{key}]"
        return f"{where}.{key}" if where else key

    def missing(self, where: str) -> FormatError:
        return FormatError(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")

    def wrong_type(self, where: str, expected: str, value: object) -> FormatError:
        text = f"expected {_article(expected)} {expected}, but got {_kind_of(value)} instead."
        return FormatError(f"Invalid type for '{where}': {text}", where, "invalid_type")

    def wrong_value(self, where: str, value: object, allowed: Iterable[str]) -> FormatError:
        names = ", ".join(f"'{each}'" for each in allowed)
        text = f"Invalid value: '{_short(value)}'. Supported values are: {names}."
        return FormatError(text, where, "invalid_value")

    def out_of_range(self, where: str, value: float, low: float, high: float) -> FormatError:
        is_below = value < low
        kind = "integer" if type(value) is int else "decimal"
        limit = f">= {low:g}" if is_below else f"<= {high:g}"
        text = f"{kind} {'below minimum' if is_below else 'above maximum'} value. Expected a value {limit}"
        code = f"{kind}_{'below_min' if is_below else 'above_max'}_value"
        return FormatError(f"Invalid '{where}': {text}, but got {value} instead.", where, code)

    def refused(self, text: str, where: str, code: str = "") -> FormatError:
        return FormatError(text, where, code)


class AnthropicChecks(Checks):
    """The words of the Anthropic API."""

    def at(self, where: str, key: str | int) -> str:
        return f"{where}.{key}" if where else str(key)

    def missing(self, where: str) -> FormatError:
        return FormatError(f"{where}: Field required", where)

    def wrong_type(self, where: str, expected: str, value: object) -> FormatError:
        words = {"object": "dictionary", "array of objects": "list", "array of strings": "list"}
        name = words.get(expected, expected)
        return FormatError(f"{where}: Input should be {_article(name, 'valid')} valid {name}", where)

    def wrong_value(self, where: str, value: object, allowed: Iterable[str]) -> FormatError:
        names = ", ".join(f"'{each}'" for each in allowed)
        return FormatError(f"{where}: Input should be one of {names}, not '{_short(value)}'", where)

    def out_of_range(self, where: str, value: float, low: float, high: float) -> FormatError:
        limit = f"greater than or equal to {low:g}" if value < low else f"less than or equal to {high:g}"
        return FormatError(f"{where}: Input should be {limit}", where)

    def refused(self, text: str, where: str, code: str = "") -> FormatError:
        return FormatError(f"{where}: {text}" if where else text, where, code)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _article(name: str, before: str = "") -> str:
    return "an" if (before or name)[0] in "aeiou" else "a"


_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def _kind_of(value: object) -> str:
    return _KINDS.get(type(value), "something else")
