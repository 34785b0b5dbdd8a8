"""An async client for google-generativeai over REST. Imported where the SDK is.

The package's own async client speaks gRPC only, and its REST client blocks a thread for each call, which
cannot be cancelled and competes with the event loop for the interpreter. This one takes the request that the
package has built, and sends it over the transport of the other adapters.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from google.generativeai import GenerativeModel
from google.generativeai.protos import GenerateContentRequest, GenerateContentResponse
from google.protobuf.json_format import MessageToDict
from httpx2 import AsyncClient, Response, Timeout


class GeminiClient:
    """Calls of one provider over `http`."""

    def __init__(self, base_url: str, key: str, http: AsyncClient) -> None:
        self._root = f"{base_url.rstrip('/')}/v1beta"
        self._http = http
        self._http.headers["x-goog-api-key"] = key

    async def generate(self, model: str, system: str, limit: Timeout, **content: Any) -> Response:
        """One call. `content` is what `generate_content_async` takes; raises what that raises."""
        call = _Call(self._http, self._root, limit)
        generative_model = GenerativeModel(model, system_instruction=system or None)
        generative_model._async_client = call  # not the process's, with a key of the environment
        await generative_model.generate_content_async(**content)
        return call.response

    async def list_models(self, limit: Timeout) -> Response:
        """All models on one page: one that is not on it is not there."""
        response = await self._http.get(f"{self._root}/models?pageSize=1000", timeout=limit)
        return response.raise_for_status()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()


class _Call:
    """The client of one call. The package gets an empty answer, and `response` has the real one.

    The package knows neither thoughts nor newer finish reasons, and fails on answers of compatible servers.
    """

    response: Response

    def __init__(self, http: AsyncClient, root: str, limit: Timeout) -> None:
        self._http, self._root, self._limit = http, root, limit

    async def generate_content(self, request: Any) -> Any:
        body = MessageToDict(GenerateContentRequest.pb(request))
        url = f"{self._root}/{quote(body.pop('model'))}:generateContent"
        self.response = await self._http.post(url, json=body, timeout=self._limit)
        self.response.raise_for_status()
        return GenerateContentResponse()
