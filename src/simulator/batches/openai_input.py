"""OpenAI: the rows of an input file, and what is wrong with them as a batch that fails says it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ..config import ProviderConfig
from ..shapes import Json
from .store import Row

ENDPOINTS = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "generate",
    "/v1/embeddings": "embeddings",
}
_MAX_ROWS = 50_000
_MOST_ERRORS = 100
_SLICE_LINES = 64
_TEXTS = {
    "invalid_json_line": "This line is not parseable as valid JSON.",
    "invalid_method": "The HTTP method for this request must be POST.",
    "url_mismatch": "The URL provided for this request does not match the endpoint of the batch.",
    "duplicate_custom_id": (
        "The custom_id for this request is a duplicate of another request. "
        "The custom_id parameter must be unique for each request in a batch."
    ),
    "model_mismatch": (
        "The model provided for this request does not match the rest of the batch. "
        "Each batch must contain requests for a single model."
    ),
    "empty_file": "The input file is empty. It must have at least one request.",
}


def _error(code: str, line: int | None, text: str = "", param: str | None = None) -> Json:
    return {"code": code, "line": line, "message": text or _TEXTS[code], "param": param}


async def read_input(data: bytes, endpoint: str, config: ProviderConfig) -> tuple[list[Row], list[Json]]:
    """The rows, and no errors; or the errors, and no rows."""
    lines = data.decode("utf-8", "replace").splitlines()
    most = config.batches.max_rows or _MAX_ROWS
    if not any(line.strip() for line in lines):
        return [], [_error("empty_file", None)]
    if len(lines) > most:
        text = f"The batch input file contains too many requests. The maximum is {most}."
        return [], [_error("too_many_tasks", None, text)]
    reader = _InputReader(endpoint, config)
    for number, line in enumerate(lines, 1):
        if number % _SLICE_LINES == 0:
            await asyncio.sleep(0)
        reader.read(line, number)
        if len(reader.errors) >= _MOST_ERRORS:
            break
    return ([], reader.errors) if reader.errors else (reader.rows, [])


class _InputReader:
    """Reads line by line. `errors` are those of all lines so far."""

    def __init__(self, endpoint: str, config: ProviderConfig) -> None:
        self.rows: list[Row] = []
        self.errors: list[Json] = []
        self._endpoint = endpoint
        self._kind = ENDPOINTS[endpoint]
        self._models = config.models
        self._seen: set[str] = set()

    def read(self, line: str, number: int) -> None:
        """Take one line."""
        try:
            sent: Any = json.loads(line)
        except ValueError:
            sent = None
        if not isinstance(sent, dict):
            self.errors.append(_error("invalid_json_line", number))
            return
        found = self._wrong(sent, number)
        if found is not None:
            self.errors.append(found)
            return
        self._seen.add(sent["custom_id"])
        self.rows.append(Row(sent["custom_id"], sent["body"], self._kind, sent["body"]["model"]))

    def _wrong(self, sent: Json, number: int) -> Json | None:
        for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
            if not isinstance(sent.get(name), kind):
                text = f"Missing required parameter: '{name}'."
                return _error("missing_required_parameter", number, text, name)
        if sent["method"] != "POST":
            return _error("invalid_method", number, param="method")
        if sent["url"] != self._endpoint:
            return _error("url_mismatch", number, param="url")
        if sent["custom_id"] in self._seen:
            return _error("duplicate_custom_id", number, param="custom_id")
        return self._wrong_model(sent["body"].get("model"), number)

    def _wrong_model(self, model: Any, number: int) -> Json | None:
        if not isinstance(model, str) or not model:
            text = "Missing required parameter: 'body.model'."
            return _error("missing_required_parameter", number, text, "body.model")
        if self._models is not None and model not in self._models:
            text = f"The provided model '{model}' is not supported by the Batch API."
            return _error("model_not_found", number, text, "body.model")
        if self.rows and model != self.rows[0].model:
            return _error("model_mismatch", number, param="body.model")
        return None
