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
        """One call. Raises what `generate_content_async` raises.

        `request` has what the package takes: `system`, `contents` and `generation_config`; and `beyond`, the
        fields of the body that it does not know.
        """
        contents, beyond = request["contents"], request["beyond"]
        if not all(part.keys() == {"text"} for content in contents for part in content["parts"]):
            contents, beyond = _PLACEHOLDER, {**beyond, "contents": contents}
        call = _Call(self, beyond, limit, stream=stream)
        generative_model = GenerativeModel(model, system_instruction=request["system"] or None)
        generative_model._async_client = call  # not the process's, with a key of the environment
        await generative_model.generate_content_async(
            contents, generation_config=request["generation_config"]
        )
        return call.response

    async def list_models(self, limit: Timeout) -> Response:
        """All models on one page: one that is not on it is not there."""
        return await self.exchange("GET", "models?pageSize=1000", None, limit)

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


class _Call:
    """The client of one call. The package gets an empty answer, and `response` has the real one.

    The package knows neither thoughts nor newer finish reasons, and fails on answers of compatible servers.
    Of requests it knows neither signatures nor thinking nor a seed nor JSON schemas of functions, and it
    decodes images: these fields of the body are in `beyond`, and are sent as they are.
    """

    response: Response

    def __init__(
        self, client: GeminiClient, beyond: Mapping[str, Any], limit: Timeout, *, stream: bool
    ) -> None:
        self._client, self._beyond, self._limit, self._stream = client, beyond, limit, stream

    async def generate_content(self, request: Any) -> Any:
        fields = MessageToDict(GenerateContentRequest.pb(request))
        config = {**fields.get("generationConfig", {}), **self._beyond.get("generationConfig", {})}
        fields |= {**self._beyond, "generationConfig": config}
        method = "streamGenerateContent?alt=sse" if self._stream else "generateContent"
        path = f"{quote(fields.pop('model'))}:{method}"
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        self.response = await self._client.exchange("POST", path, body, self._limit, stream=self._stream)
        return GenerateContentResponse()
