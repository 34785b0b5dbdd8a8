"""OpenAI: POST, GET, DELETE /v1/files and GET /v1/files/{id}/content.

Sources of the messages: recorded 400s and 404s, for instance in bespokelabsai/curator#113 (size) and
BerriAI/litellm#37527 (names of files, shape of a file).
"""

from __future__ import annotations

from typing import Any

from aiohttp import BodyPartReader, web

from ..net import whole
from ..shapes import Answer, Fail, Json, refused
from .files import StoredFile, read_at_most
from .openai_lists import page, positive
from .store import BatchStore

MAX_BYTES = 200 * 1024 * 1024  # of the input of a batch
_MAX_OTHER_BYTES = 512 * 1024 * 1024
_KEPT_S = 30 * 86_400  # input and output of batches, unless the request says how long
_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def shown(stored: StoredFile) -> Json:
    """A file as the API shows it."""
    return {
        "object": "file",
        "id": stored.ident,
        "purpose": stored.purpose,
        "filename": stored.name,
        "bytes": len(stored.data),
        "created_at": int(stored.made_at),
        "expires_at": int(stored.made_at + stored.extra.get("kept_s", _KEPT_S)),
        "status": "processed",
        "status_details": None,
    }


class OpenAIFiles:
    """The pages of files."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store

    async def upload(self, request: web.BaseRequest) -> Json:
        """POST /v1/files, a form with `purpose`, `file` and `expires_after`."""
        if not request.content_type.startswith("multipart/"):
            raise refused("Missing required parameter: 'file'.", "file", "missing_required_parameter")
        fields, name, data = await self._read_form(request)
        purpose = fields.get("purpose", "")
        if purpose not in _PURPOSES:
            text = f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'"
            raise refused(text, "purpose")
        if name is None:
            raise refused("Missing required parameter: 'file'.", "file", "missing_required_parameter")
        if data is None:
            raise refused("File is too large.")
        if purpose == "batch" and not name.endswith(".jsonl"):
            raise refused("Invalid file format for Batch API. Must be .jsonl")
        extra = {"kept_s": _kept_s(fields)} if "expires_after[seconds]" in fields else {}
        return shown(self.write(data, name, purpose, extra))

    async def _read_form(self, request: web.BaseRequest) -> tuple[dict[str, str], str | None, bytes | None]:
        """The fields, the name of the file, and its bytes: None where they are too many."""
        fields: dict[str, str] = {}
        name, data = None, None
        own_most = self._store.engine.config.batches.max_bytes
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.name != "file":
                fields[part.name or ""] = await part.text()
                continue
            most = MAX_BYTES if fields.get("purpose", "batch") == "batch" else _MAX_OTHER_BYTES
            name = part.filename or ""
            data = await read_at_most(_chunks(part), own_most or most)
        return fields, name, data

    def write(self, data: bytes, name: str, purpose: str, extra: Json | None = None) -> StoredFile:
        """Store a file."""
        ident = f"file-{self._store.engine.ident()}"
        now = self._store.clock.now()
        return self._store.files.add(StoredFile(ident, data, name, purpose, now, extra or {}))

    def find(self, ident: str) -> StoredFile:
        """The file of that id. Raises Fail."""
        found = self._store.files.get(ident)
        if found is None:
            raise Fail("no_such", message=f"No such File object: {ident}", param="id")
        return found

    def listed(self, request: web.BaseRequest) -> Json:
        """GET /v1/files."""
        purpose = request.query.get("purpose")
        files = [shown(f) for f in self._store.files.newest_first() if purpose in (None, f.purpose)]
        return page(files, request.query.get("after"), positive(request.query, "limit", 10_000, 10_000))

    def content(self, ident: str) -> web.Response:
        """GET /v1/files/{id}/content."""
        data = self.find(ident).data
        return whole(Answer(200, data, {"Content-Type": "application/octet-stream"}), {})

    def delete(self, ident: str) -> Json:
        """DELETE /v1/files/{id}."""
        self._store.files.delete(self.find(ident).ident)
        return {"object": "file", "deleted": True, "id": ident}


async def _chunks(part: BodyPartReader) -> Any:
    while chunk := await part.read_chunk(65_536):
        yield bytes(chunk)


def _kept_s(fields: dict[str, str]) -> int:
    seconds = fields["expires_after[seconds]"]
    if not seconds.isdecimal() or not 3_600 <= int(seconds) <= 2_592_000:
        text = "Invalid 'expires_after.seconds': expected a value between 3600 and 2592000."
        raise refused(text, "expires_after.seconds", "invalid_value")
    return int(seconds)
