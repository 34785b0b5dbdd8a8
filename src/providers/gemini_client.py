"""An async client for google-generativeai over REST. Imported where the SDK is.

The package's own async client speaks gRPC only, and its REST client blocks a thread for each call, which
cannot be cancelled and competes with the event loop for the interpreter. This one takes the request that the
package has built, and sends it over the transport of the other adapters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from google.generativeai import GenerativeModel
from google.generativeai.protos import GenerateContentRequest, GenerateContentResponse
from google.protobuf.json_format import MessageToDict
from httpx2 import Response, Timeout

from .transport import Client

_PLACEHOLDER = [{"role": "user", "parts": [{"text": "-"}]}]  # the package takes no request without contents


class GeminiClient:
    """Calls of one provider over `http`."""

    def __init__(self, base_url: str, key: str, http: Client) -> None:
        self._root = f"{base_url.rstrip('/')}/v1beta"
        self._headers = {"x-goog-api-key": key, "content-type": "application/json"}
        self._http = http

    async def generate(
        self, model: str, request: Mapping[str, Any], limit: Timeout, *, stream: bool = False
    ) -> Response:
        """One call of `request`, see `body`. Raises what `generate_content_async` raises."""
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        content = to_json(await self.body(model, request))
        return await self.exchange("POST", f"models/{quote(model)}:{method}", content, limit, stream=stream)

    async def body(self, model: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request as the API takes it. Raises what `generate_content_async` raises.

        `request` has what the package takes: `system`, `contents` and `generation_config`; and `beyond`, the
        fields of the body that it does not know.
        """
        contents, beyond = request["contents"], request["beyond"]
        if not all(part.keys() == {"text"} for content in contents for part in content["parts"]):
            contents, beyond = _PLACEHOLDER, {**beyond, "contents": contents}
        capture = _Capture()
        generative_model = GenerativeModel(model, system_instruction=request["system"] or None)
        generative_model._async_client = capture  # not the process's, with a key of the environment
        await generative_model.generate_content_async(
            contents, generation_config=request["generation_config"]
        )
        fields = {name: value for name, value in capture.fields.items() if name != "model"}
        config = {**fields.get("generationConfig", {}), **beyond.get("generationConfig", {})}
        return {**fields, **beyond, "generationConfig": config}

    async def exchange(
        self, method: str, path: str, body: bytes | None, limit: Timeout, *, stream: bool = False
    ) -> Response:
        """One exchange below the base URL. Raises httpx2.HTTPStatusError for an answer with an error."""
        url = f"{self._root}/{path}"
        request = self._http.build_request(method, url, headers=self._headers, content=body, timeout=limit)
        return (await self._http.send(request, stream=stream)).raise_for_status()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()


class _Capture:
    """The client of one call: keeps what the package would send, which gets an empty answer.

    The package knows neither thoughts nor newer finish reasons, and fails on answers of compatible servers.
    Of requests it knows neither signatures nor thinking nor a seed nor JSON schemas of functions, and it
    decodes images: these fields of the body are in `beyond`, and are sent as they are.
    """

    fields: dict[str, Any]

    async def generate_content(self, request: Any) -> Any:
        self.fields = MessageToDict(GenerateContentRequest.pb(request))
        return GenerateContentResponse()


def to_json(body: Mapping[str, Any]) -> bytes:
    """A body as it is sent."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
