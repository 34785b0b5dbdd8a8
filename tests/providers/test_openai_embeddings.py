"""Embeddings of OpenAI-compatible servers: passed on as they came, if there is a vector for each input."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import InvalidResponse
from src.messages import Message
from src.providers.openai_embeddings import without_vectors
from src.records import CompletionRequest, Native, Usage

from .conftest import Builder, Canned, access_to

USAGE = {"prompt_tokens": 7, "total_tokens": 7}
VECTORS = st.one_of(
    st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    st.binary().map(lambda vector: base64.b64encode(vector).decode()),
)


def answer(count: int, **changes: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": n, "embedding": [0.1, -2e-05]} for n in range(count)]
    return {"object": "list", "data": data, "model": "m", "usage": USAGE, **changes}


def asking(given: Any) -> CompletionRequest:
    native = Native("embeddings", {"model": "as-written", "input": given})
    return CompletionRequest("m", (Message("user", "x"),), 1, native=native)


@pytest.mark.parametrize(
    ("given", "vectors"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)], ids=str
)
async def test_the_answer_is_passed_on_as_it_came(
    canned: Canned, adapter_for: Builder, given: Any, vectors: int
) -> None:
    canned.body = answer(vectors)
    found = await adapter_for(access_to("openai", canned.url("openai"))).complete(asking(given))
    [seen] = canned.seen
    assert seen["path"].endswith("/embeddings") and seen["body"] == {"model": "m", "input": given}
    assert isinstance(found.raw, bytes) and json.loads(found.raw) == answer(vectors)
    assert found.text == "" and found.usage == Usage(input_tokens=7)


@pytest.mark.parametrize(
    "body",
    [answer(1), answer(0), answer(2, data=None), {"choices": []}],
    ids=["fewer", "none", "null", "other"],
)
async def test_an_answer_without_a_vector_for_each_input_is_none(
    canned: Canned, adapter_for: Builder, body: Any
) -> None:
    canned.body = body
    with pytest.raises(InvalidResponse, match="vectors for 2 inputs"):
        await adapter_for(access_to("openai", canned.url("openai"))).complete(asking(["a", "b"]))


@given(vectors=st.lists(VECTORS, max_size=5), indent=st.sampled_from([None, 2]))
def test_vectors_of_any_kind_are_left_out(vectors: list[Any], indent: int | None) -> None:
    body = answer(0, data=[{"index": n, "embedding": vector} for n, vector in enumerate(vectors)])
    left = json.loads(without_vectors(json.dumps(body, indent=indent).encode()))
    assert left == {**body, "data": [{"index": n, "embedding": 0} for n in range(len(vectors))]}
