"""Raw HTTP: what no SDK would send."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """An answer; `headers` by names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(
    url: str,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | Mapping[str, Any] | Iterator[bytes] | None = None,
) -> Answer:
    """One request on a connection of its own. A mapping is sent as JSON, an iterator in chunks."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    content = json.dumps(body).encode() if isinstance(body, Mapping) else body
    sent = {"content-type": "application/json"} if isinstance(body, Mapping) else {}
    try:
        connection.request(method, path, body=content, headers={**sent, **(headers or {})})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()
