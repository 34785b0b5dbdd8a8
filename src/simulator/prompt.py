"""The prompt of a request as one text, read part by part in any API format."""

from __future__ import annotations

import json
from typing import Any


class Prompt:
    """Collects the parts. `parts` is the same for the same conversation on every API."""

    __slots__ = (
        "calls_since",
        "chars",
        "extra_tokens",
        "images",
        "last",
        "longest_edge_px",
        "marked",
        "marks",
        "model",
        "pages",
        "parts",
        "unsigned_call",
    )

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.chars = 0  # of text, roles not counted
        self.extra_tokens = 0  # of images and documents
        self.images = 0
        self.longest_edge_px = 0  # of all images
        self.pages = 0  # of documents
        self.last = ""  # the last text of the user
        self.calls_since = 0  # answers with tool calls since that text
        self.marks = 0
        self.model = ""  # that is asked, where its reasoning is checked
        self.unsigned_call: str | None = None
        self.marked: tuple[str, int] | None = None  # text up to the last cache mark, its characters

    def text(self, role: str, text: str) -> None:
        """A text of "system", "user", "assistant" or "tool"."""
        self.parts.append(f"{role}:{text}")
        self.chars += len(text)
        if role == "user":
            self.last = text
            self.calls_since = 0
            self.unsigned_call = None  # what came before is not looked at

    def call(self, name: str, arguments: Any) -> None:
        """A tool call of the model."""
        text = f"{name} {json.dumps(arguments, sort_keys=True)}"
        self.parts.append(f"call:{text}")
        self.chars += len(text)

    def call_as_sent(self, name: str, arguments: str) -> None:
        """A tool call whose arguments are sent as JSON; what is none is kept as it is, as OpenAI does."""
        try:
            self.call(name, json.loads(arguments))
        except ValueError:
            self.call(name, arguments)

    def calls_ended(self) -> None:
        """The end of an answer that had tool calls."""
        self.calls_since += 1

    def medium(self, role: str, name: str, tokens: int) -> None:
        """An image or a document, by what names its content."""
        self.parts.append(f"{role}:[{name}]")
        self.extra_tokens += tokens

    def mark(self) -> None:
        """A cache mark after the last part."""
        self.marks += 1
        self.marked = ("\x1e".join(self.parts), self.chars)

    def joined(self) -> str:
        """The whole prompt."""
        return "\x1e".join(self.parts)
