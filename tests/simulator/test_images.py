"""Images and documents: what each API takes, what it refuses, and how many tokens it counts."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from src.simulator.config import API_FORMATS
from src.simulator.images import Media, anthropic_tokens, gemini_tokens, look_into, openai_tokens

from .histories import Poster, calls, request, tools
from .media import b64, data_url, gif, jpeg, pdf, png, webp
from .sdks import ask, gemini_sdk, text_of


# What the providers were measured to count for one image, less what they counted for the words beside it.
@pytest.mark.parametrize(
    ("size", "claude", "gpt", "gpt_high"),
    [
        ((256, 256), 100, 77, 77),
        ((512, 512), 361, 308, 308),
        ((1024, 1024), 1_369, 1_229, 1_229),
        ((1280, 720), 1_196, 1_104, 1_104),
        ((1920, 1080), 2_691, 2_448, 2_448),
        ((2560, 1440), 2_952, 4_320, 2_931),
        ((4032, 3024), 3_888, 14_364, 2_942),
    ],
)
def test_tokens_are_those_that_the_providers_were_measured_to_count(
    size: tuple[int, int], claude: int, gpt: int, gpt_high: int
) -> None:
    media = Media("image/png", *size)
    assert anthropic_tokens(media) == claude
    assert (openai_tokens(media, "auto"), openai_tokens(media, "high")) == (gpt, gpt_high)
    assert gemini_tokens(media, "") == 1_120


@pytest.mark.parametrize("size", [(1, 1), (300, 4_000), (1_000, 10)])
def test_every_kind_of_image_tells_its_size(size: tuple[int, int]) -> None:
    made = {"image/png": png, "image/gif": gif, "image/jpeg": jpeg, "image/webp": webp}
    for kind, make in made.items():
        found = look_into(make(*size))
        assert (found.kind, found.width, found.height) == (kind, *size)
    assert look_into(pdf(7)).pages == 7
    assert look_into(b"hello").kind == ""


# -- in requests --

PNG, PDF = png(256, 256), pdf(2)


def parts(api: str, kind: str, data: bytes) -> list[dict[str, Any]]:
    """A medium as content of the user."""
    is_image = kind.startswith("image/")
    if api == "anthropic":
        source = {"type": "base64", "media_type": kind, "data": b64(data)}
        return [{"type": "image" if is_image else "document", "source": source}]
    if api == "gemini":
        return [{"inlineData": {"mimeType": kind, "data": b64(data)}}]
    url = data_url(kind, data)
    if is_image:
        return [{"type": "image_url", "image_url": {"url": url}}]
    return [{"type": "file", "file": {"filename": "a.pdf", "file_data": url}}]


def said(api: str, content: list[dict[str, Any]], text: str = "What is it?") -> list[dict[str, Any]]:
    if api == "gemini":
        return [{"role": "user", "parts": [*content, {"text": text}]}]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


async def input_tokens(poster: Poster, api: str, turns: list[dict[str, Any]], **more: Any) -> int:
    status, answer = await poster.post(api, request(api, turns, **more))
    assert status == 200, answer
    tokens = poster.sim.stats()[api]["admitted_input_tokens"]
    poster.sim.reset()
    return int(tokens)


@pytest.mark.parametrize(
    ("api", "kind", "data", "tokens"),
    [
        ("anthropic", "image/png", PNG, 100),
        ("anthropic", "application/pdf", PDF, 6_000),
        ("openai", "image/png", PNG, 77),
        ("openai", "application/pdf", PDF, 3_400),
        ("gemini", "image/png", PNG, 1_120),
        ("gemini", "application/pdf", PDF, 1_120),
    ],
)
async def test_a_medium_counts_by_the_provider_s_formula(
    poster: Poster, api: str, kind: str, data: bytes, tokens: int
) -> None:
    with_it = await input_tokens(poster, api, said(api, parts(api, kind, data)))
    without = await input_tokens(poster, api, said(api, []))
    assert with_it - without - (4 if api == "openai" else 0) == tokens  # OpenAI's parts count 4 tokens each


async def test_detail_and_resolution_change_the_count(poster: Poster) -> None:
    large = png(2_560, 1_440)
    url = data_url("image/png", large)
    counts = [
        await input_tokens(
            poster,
            "openai",
            said("openai", [{"type": "image_url", "image_url": {"url": url, "detail": detail}}]),
        )
        for detail in ("auto", "high", "low")
    ]
    assert counts == sorted(counts, reverse=True)
    part = parts("gemini", "image/png", PNG)[0]
    low = {"mediaResolution": "MEDIA_RESOLUTION_LOW"}
    of_all = await input_tokens(poster, "gemini", said("gemini", [part]), generationConfig=low)
    of_part = {**part, "mediaResolution": {"level": "MEDIA_RESOLUTION_ULTRA_HIGH"}}
    of_one = await input_tokens(poster, "gemini", said("gemini", [of_part]), generationConfig=low)
    assert of_one - of_all == 2_240 - 280


async def test_the_same_picture_is_the_same_prompt_on_every_api(poster: Poster) -> None:
    for api in API_FORMATS:
        status, _ = await poster.post(api, request(api, said(api, parts(api, "image/png", PNG))))
        assert status == 200
    await poster.post("openai", request("openai", said("openai", parts("openai", "image/png", png(9, 9)))))
    found = [poster.sim.stats()[api]["answered_duplicates"] for api in API_FORMATS]
    assert found == [0, 1, 1]


async def test_an_image_can_be_the_result_of_a_tool(poster: Poster) -> None:
    turns = [
        {"role": "user", "content": "Look"},
        calls("anthropic", ("c", "get_time", {"zone": "UTC"})),
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": parts("anthropic", "image/png", PNG)}
            ],
        },
    ]
    status, answer = await poster.post("anthropic", request("anthropic", turns, tools=tools("anthropic")))
    assert status == 200, answer


def claude_image(**source: Any) -> list[dict[str, Any]]:
    return [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(PNG)} | source}
    ]


def gpt_image(url: str, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": url, **more}}]


def gemini_data(kind: str, data: str) -> list[dict[str, Any]]:
    return [{"inlineData": {"mimeType": kind, "data": data}}]


REFUSED: list[tuple[str, list[dict[str, Any]], str]] = [
    ("anthropic", claude_image(media_type="image/bmp"), "media_type: Input should be 'image/jpeg'"),
    ("anthropic", claude_image(media_type="image/jpeg"), "appears to be a image/png image"),
    ("anthropic", claude_image(data="%%%"), "Invalid base64 data"),
    ("anthropic", claude_image(data=b64(b"text")), "Could not process image"),
    ("anthropic", claude_image(data=b64(png(8_001, 9))), "exceed max allowed size: 8000 pixels"),
    ("anthropic", claude_image(data=b64(png(2_001, 9))) * 21, "for many-image requests: 2000 pixels"),
    ("anthropic", claude_image(data=b64(png(9, 9, 8_000_000))), "image exceeds 10 MB maximum"),
    ("anthropic", claude_image(type="url", url="http://x/y.png"), "Only HTTPS URLs are supported"),
    ("anthropic", claude_image(type="path"), "Input tag 'path'"),
    ("anthropic", [{"type": "image"}], "image.source: Field required"),
    ("anthropic", parts("anthropic", "application/pdf", b"text"), "The PDF specified was not valid"),
    ("anthropic", parts("anthropic", "application/pdf", pdf(601)), "A maximum of 600 PDF pages"),
    ("openai", gpt_image("ftp://x"), "Expected a valid URL"),
    ("openai", gpt_image(data_url("text/plain", b"x")), "Invalid MIME type. Only image types are supported"),
    ("openai", gpt_image("data:image/png;base64,%%%"), "Invalid base64 image_url"),
    ("openai", gpt_image(data_url("image/png", b"text")), "You uploaded an unsupported image"),
    ("openai", gpt_image("https://x/y.png", detail="best"), "Invalid value: 'best'"),
    ("openai", [{"type": "image_url"}], "Missing required parameter: 'messages[0].content[0].image_url'"),
    ("openai", [{"type": "file", "file": {"file_data": "x"}}], "content[0].file.filename'"),
    (
        "openai",
        [{"type": "file", "file": {"filename": "a.txt", "file_data": data_url("text/plain", b"x")}}],
        "Invalid file data",
    ),
    ("gemini", gemini_data("image/jpg", b64(jpeg(9, 9))), "Unsupported MIME type: image/jpg"),
    ("gemini", gemini_data("image/gif", b64(gif(9, 9))), "Unsupported MIME type: image/gif"),
    ("gemini", gemini_data("image/png", "%%%"), "Base64 decoding failed"),
    ("gemini", gemini_data("image/png", b64(b"text")), "Unable to process input image"),
    ("gemini", gemini_data("application/pdf", b64(b"text")), "The document has no pages"),
    (
        "gemini",
        [{"fileData": {"mimeType": "image/png", "fileUri": "https://x/y.png"}}],
        "Invalid or unsupported file uri",
    ),
]


@pytest.mark.parametrize(
    ("api", "content", "message"), [pytest.param(*row, id=f"{row[0]}: {row[2]}") for row in REFUSED]
)
async def test_what_the_api_does_not_take_is_a_400_in_its_words(
    poster: Poster, api: str, content: list[dict[str, Any]], message: str
) -> None:
    status, answer = await poster.post(api, request(api, said(api, content)))
    assert (status, message in answer["error"]["message"]) == (400, True), answer


@pytest.mark.parametrize(
    ("api", "content"),
    [
        ("anthropic", claude_image(type="url", url="https://x/y.png")),
        ("anthropic", claude_image(data=b64(png(2_000, 9))) * 21),
        (
            "anthropic",
            [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}],
        ),
        ("openai", gpt_image("https://x/y.png", detail="low")),
        ("openai", gpt_image(data_url("image/jpeg", PNG))),  # what the data URL calls it does not matter
        ("openai", [{"type": "file", "file": {"file_id": "file-1"}}]),
        ("gemini", gemini_data("text/plain", b64(b"some text"))),
        ("gemini", gemini_data("image/png", base64.urlsafe_b64encode(PNG).decode().rstrip("="))),
        ("gemini", [{"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}}]),
    ],
)
async def test_what_the_api_takes(poster: Poster, api: str, content: list[dict[str, Any]]) -> None:
    status, answer = await poster.post(api, request(api, said(api, content)))
    assert status == 200, answer


async def test_a_request_of_more_than_32_mb_is_too_large_for_anthropic(poster: Poster) -> None:
    large = "x" * (32 * 1024 * 1024)
    status, answer = await poster.post("anthropic", request("anthropic", said("anthropic", [], large)))
    assert (status, answer["error"]["type"]) == (413, "request_too_large")


async def test_the_sdks_send_images(poster: Poster) -> None:
    for api in ("anthropic", "openai"):
        turns = said(api, parts(api, "image/png", PNG), "Which colour?")
        assert "Which colour?" in text_of(api, await ask(poster.sim, api, messages=turns))
    genai = gemini_sdk()
    genai.configure(
        api_key="k", transport="rest", client_options={"api_endpoint": poster.sim.base_urls["gemini"]}
    )
    content = [{"mime_type": "image/png", "data": PNG}, "Which colour?"]
    answer = genai.GenerativeModel("gemini-3.8-flash").generate_content(
        content, request_options={"retry": None, "timeout": 5}
    )
    assert "Which colour?" in answer.text
    assert answer.usage_metadata.prompt_token_count > 1_120
