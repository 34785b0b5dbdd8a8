"""Gemini: POST /upload/v1beta/files (resumable), GET and DELETE /v1beta/files, and files/ID:download."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ..net import whole
from ..shapes import Answer, Fail, Json, refused
from .files import StoredFile, read_at_most
from .pages import Page
from .store import BatchStore

_MAX_BYTES = 2 * 1024 * 1024 * 1024
_KEPT_S = 2 * 86_400.0
_USUAL_PAGE, _MOST_LISTED = 10, 100
_ROUTES = (
    (re.compile(r"/upload/v1(?:beta)?/files"), {"POST": "upload"}),
    (re.compile(r"/v1(?:beta)?/files"), {"GET": "list"}),
    (re.compile(r"/v1(?:beta)?/files/([^/:]+)"), {"GET": "retrieve", "DELETE": "delete"}),
    (re.compile(r"(?:/download)?/v1(?:beta)?/files/([^/:]+):download"), {"GET": "results"}),
)


def at(seconds: float) -> str:
    """A moment as the API shows it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class GeminiFiles:
    """The pages of files. An upload is begun, continued at an address of its own, and finalized."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store
        self._begun: dict[str, tuple[Json, bytearray]] = {}
        self._ended: set[str] = set()

    def route(self, request: web.BaseRequest) -> Page | None:
        """The page that a request is for. What continues an upload bears no key, but the id of the upload."""
        for pattern, actions in _ROUTES:
            found = pattern.fullmatch(request.path)
            action = actions.get(request.method)
            if found and action:
                begins = action == "upload" and "upload_id" not in request.query
                name, ident = f"files {action}", (*found.groups(), "")[0]
                return Page("begin" if begins else action, name, ident, action != "upload" or begins)
        return None

    def find(self, ident: str) -> StoredFile:
        """The file of that id. Raises Fail."""
        found = self._store.files.get(ident)
        if found is None:
            text = f"You do not have permission to access the File {ident} or it may not exist."
            raise Fail("no_such_file", message=text)
        return found

    async def handle(self, request: web.BaseRequest, name: str, ident: str) -> web.Response:
        """Answer a request. Raises Fail."""
        match name:
            case "files upload":
                return await self._upload(request)
            case "files list":
                body = self._listed(request)
            case "files retrieve":
                body = self._shown(self.find(ident), request)
            case "files delete":
                self._store.files.delete(self.find(ident).ident)
                body = {}
            case _:
                return self._download(self.find(ident))
        return whole(Answer(200, json.dumps(body).encode()), {})

    def _download(self, stored: StoredFile) -> web.Response:
        if stored.purpose != "output":
            raise refused("Only generated files can be downloaded.")
        return whole(Answer(200, stored.data, {"Content-Type": stored.extra["type"]}), {})

    # -- upload --

    async def _upload(self, request: web.BaseRequest) -> web.Response:
        commands = request.headers.get("X-Goog-Upload-Command", "")
        ident = request.query.get("upload_id")
        if ident is None:
            return await self._start(request)
        try:
            return await self._continue(request, ident, commands)
        except Fail as fail:
            answer, headers = self._store.engine.error(fail, request.method, request.path)
            return whole(answer, {**headers, "X-Goog-Upload-Status": "final"})

    async def _continue(self, request: web.BaseRequest, ident: str, commands: str) -> web.Response:
        if ident in self._ended:
            raise refused("Upload has already been terminated.")
        begun = self._begun.get(ident)
        if begun is None:
            raise Fail("no_such", message="The upload was not found.")
        details, data = begun
        most = self._store.engine.config.batches.max_bytes or _MAX_BYTES
        chunk = await read_at_most(request.content.iter_any(), most - len(data))
        if chunk is None:
            raise refused(f"The file is larger than the limit of {most} bytes.")
        if request.headers.get("X-Goog-Upload-Offset", "0") != str(len(data)):
            raise refused("The offset of the upload does not match what has been received.")
        data += chunk
        if "finalize" not in commands:
            return whole(Answer(200, b"", {"X-Goog-Upload-Status": "active"}), {})
        del self._begun[ident]
        self._ended.add(ident)
        stored = self._add(details, bytes(data))
        body = json.dumps({"file": self._shown(stored, request)}).encode()
        return whole(Answer(200, body, {"X-Goog-Upload-Status": "final"}), {})

    async def _start(self, request: web.BaseRequest) -> web.Response:
        raw = await request.read()
        try:
            sent: Any = json.loads(raw) if raw.strip() else {}
            details = dict(sent.get("file") or {})
        except (ValueError, AttributeError, TypeError):
            raise refused("Invalid JSON payload received.") from None
        details.setdefault("mimeType", request.headers.get("X-Goog-Upload-Header-Content-Type", ""))
        ident = self._store.engine.ident()
        self._begun[ident] = details, bytearray()
        url = f"http://{request.host}{request.path}?upload_id={ident}&upload_protocol=resumable"
        headers = {"X-Goog-Upload-URL": url, "X-Goog-Upload-Status": "active"}
        return whole(Answer(200, b"", headers), {})

    def _add(self, details: Json, data: bytes) -> StoredFile:
        given = str(details.get("name") or "").removeprefix("files/")
        ident = given or self._store.engine.ident()
        name = str(details.get("displayName") or details.get("display_name") or "")
        extra = {"type": details["mimeType"]}
        return self._store.files.add(StoredFile(ident, data, name, "input", self._store.clock.now(), extra))

    # -- showing --

    def _listed(self, request: web.BaseRequest) -> Json:
        given, token = request.query.get("pageSize", ""), request.query.get("pageToken", "")
        size = min(int(given), _MOST_LISTED) if given.isdecimal() and int(given) else _USUAL_PAGE
        start = int(token) if token.isdecimal() else 0
        files = self._store.files.newest_first()
        page: Json = {"files": [self._shown(stored, request) for stored in files[start : start + size]]}
        if len(files) > start + size:
            page["nextPageToken"] = str(start + size)
        return page if files else {}

    def _shown(self, stored: StoredFile, request: web.BaseRequest) -> Json:
        uri = f"http://{request.host}/v1beta/files/{stored.ident}"
        # base64 of the hexadecimal digits, not of the bytes: that is what the API sends
        digest = base64.b64encode(stored.sha256.encode()).decode()
        shown: Json = {
            "name": f"files/{stored.ident}",
            "mimeType": stored.extra["type"],
            "sizeBytes": str(len(stored.data)),
            "createTime": at(stored.made_at),
            "updateTime": at(stored.made_at),
            "expirationTime": at(stored.made_at + _KEPT_S),
            "sha256Hash": digest,
            "uri": uri,
            "state": "ACTIVE",
            "source": "UPLOADED" if stored.purpose == "input" else "GENERATED",
        }
        if stored.name:
            shown["displayName"] = stored.name
        if stored.purpose == "output":
            shown["downloadUri"] = f"{uri}:download?alt=media"
        return shown
