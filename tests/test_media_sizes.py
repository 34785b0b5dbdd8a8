"""Sizes of images and documents, and the tokens that each API counts for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.media_sizes import USUAL_PX, MediaSize, size_of
from src.messages import Document, Image, Message, Text, Tool, ToolResult
from src.providers.api_formats import API_FORMATS
from src.records import Task
from src.simulator import images as simulated

from .simulator.media import b64, gif, jpeg, pdf, png, webp

MAKERS = {"image/png": png, "image/gif": gif, "image/jpeg": jpeg, "image/webp": webp}
ALL = tuple(API_FORMATS)


@given(st.sampled_from(sorted(MAKERS)), st.integers(1, 500), st.integers(1, 500))
def test_the_size_of_an_image_is_read_from_its_header(kind: str, width: int, height: int) -> None:
    found = size_of(Image(kind, b64(MAKERS[kind](width, height))))
    assert found == MediaSize(kind, width, height)


@given(st.sampled_from(sorted(MAKERS)), st.binary(max_size=40), st.integers(0, 60))
def test_any_bytes_have_a_size(kind: str, junk: bytes, cut: int) -> None:
    for data in (junk, MAKERS[kind](40, 30)[:cut] + junk):
        found = size_of(Image(kind, b64(data)))
        assert found.width >= 1 and found.height >= 1
        assert size_of(Document("application/pdf", b64(data))).pages >= 1


def test_a_document_has_pages_and_a_url_the_usual_size() -> None:
    assert size_of(Document("application/pdf", b64(pdf(7)))).pages == 7
    assert size_of(Document("text/plain", b64(b"x" * 9_000))).pages == 3
    found = size_of(Image(url="https://example.com/a.png"))
    assert (found.width, found.height, found.is_url) == (USUAL_PX, USUAL_PX, True)
    assert size_of(Document("application/pdf", url="https://example.com/a.pdf")).pages > 1


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (1280, 720), (1920, 1080), (4032, 3024), (20, 9_000)])
def test_estimates_are_what_the_apis_count_or_more(size: tuple[int, int]) -> None:
    real = simulated.Media("image/png", *size)
    counted = {
        "anthropic": simulated.anthropic_tokens(real),
        "openai": simulated.openai_tokens(real, "auto"),
        "gemini": simulated.gemini_tokens(real, ""),
    }
    for api, tokens in counted.items():
        assert tokens <= API_FORMATS[api].media_tokens(MediaSize("image/png", *size)) <= 1.05 * tokens
    for detail in ("low", "high"):
        high = API_FORMATS["openai"].media_tokens(MediaSize("image/png", *size, detail=detail))
        assert high >= simulated.openai_tokens(real, detail)


def task_of(*parts: Image | Document | Text, tools: tuple[Tool, ...] = ()) -> Task:
    return Task(id="1", batch="b", messages=(Message("user", (Text("what is it?"), *parts)),), tools=tools)


PNG, GIF = Image("image/png", b64(png(9, 9))), Image("image/gif", b64(gif(9, 9)))
PDF, NOTE = Document("application/pdf", b64(pdf(1))), Document("text/plain", b64(b"hello"))
HEIC = Image("image/heic", b64(b"\0\0\0\x18ftypheic"))
LINK, PAGE = (
    Image(url="https://example.com/a.png"),
    Document("application/pdf", url="https://example.com/a.pdf"),
)


@pytest.mark.parametrize(
    ("task", "takers"),
    [
        (task_of(), ALL),
        (task_of(PNG), ALL),
        (task_of(PDF), ALL),
        (task_of(tools=(Tool("f"),)), ALL),
        (task_of(GIF), ("anthropic", "openai")),
        (task_of(PNG, GIF), ("anthropic", "openai")),
        (task_of(HEIC), ("gemini",)),
        (task_of(LINK), ("anthropic", "openai")),
        (task_of(PAGE), ("anthropic",)),
        (task_of(NOTE), ("anthropic", "gemini")),
        (task_of(HEIC, LINK), ()),
        (task_of(Image("image/jpeg", PNG.data)), ALL),
        (task_of(Document("image/png", PNG.data)), ()),
        (task_of(Document("application/pdf", PNG.data)), ()),
        (task_of(Image("application/pdf", PDF.data)), ()),
        (task_of(Image("image/png", PDF.data)), ()),
        (task_of(Image("text/plain", NOTE.data)), ()),
        (task_of(Document("", NOTE.data)), ()),
    ],
    ids=[
        "text",
        "png",
        "pdf",
        "tool",
        "gif",
        "two",
        "heic",
        "url",
        "pdf-url",
        "note",
        "none",
        "png called jpeg",
        "png as document",
        "png called pdf",
        "pdf as image",
        "pdf called png",
        "note as image",
        "no type",
    ],
)
def test_each_api_takes_what_it_has_a_form_for(task: Task, takers: tuple[str, ...]) -> None:
    assert [api for api in ALL if set(task.needs) <= API_FORMATS[api].takes] == list(takers)


def test_only_text_counts_as_characters_also_in_results_of_tools() -> None:
    image = Image("image/png", b64(png(300, 300, noise=200_000)))
    plain, shown = task_of(), task_of(image)
    assert shown.text_chars == plain.text_chars
    assert shown.media == (MediaSize("image/png", 300, 300),)
    result = Task(id="1", batch="b", messages=(Message("tool", (ToolResult("c", (Text("ab"), image)),)),))
    assert result.media == shown.media
    assert result.text_chars == 2
