"""What is said depends on seed and prompt alone; a schema's instance is valid."""

from __future__ import annotations

from statistics import mean
from typing import Any

import pytest

from src.simulator.answers import Author
from src.simulator.config import OutputTokens, ProviderConfig
from src.simulator.examples import example
from src.simulator.shapes import Ask

PLAIN = ProviderConfig()


def question(text: str, **more: Any) -> Ask:
    return Ask("m", f"user:{text}", len(text), 1, text, more.pop("max_tokens", None), {}, **more)


def say(author: Author, ask: Ask, config: ProviderConfig = PLAIN) -> str:
    return author.reply(ask, author.digest(ask), 9, config).text


def test_the_same_seed_and_prompt_give_the_same_words() -> None:
    ask = question("Why two tides a day?")
    said = say(Author(1, "openai"), ask)
    assert said == say(Author(1, "openai"), ask)
    assert said != say(Author(2, "openai"), ask)
    assert said != say(Author(1, "gemini"), ask)
    assert said != say(Author(1, "openai"), question("Why two tides a day, then?"))


def test_a_prompt_has_the_same_name_at_every_provider() -> None:
    ask = question("Why?")
    assert Author(1, "openai").digest(ask) == Author(1, "gemini").digest(ask)


@pytest.mark.parametrize("wanted", [OutputTokens(200, 0.5), OutputTokens(40, 0.0)])
def test_lengths_follow_the_configuration(wanted: OutputTokens) -> None:
    author, config = Author(1, "openai"), ProviderConfig(output_tokens=wanted)
    asks = [question(f"Question {i}") for i in range(2_000)]
    lengths = [author.reply(ask, author.digest(ask), 9, config).output_tokens for ask in asks]
    assert mean(lengths) == pytest.approx(wanted.mean, rel=0.1)  # it ends where a sentence does
    assert (max(lengths) > 2 * wanted.mean) == (wanted.sigma > 0)


def test_a_very_long_answer_is_as_long_as_it_should_be() -> None:
    author, config = Author(1, "openai"), ProviderConfig(output_tokens=OutputTokens(60_000, 0))
    ask = question("Tell me all")
    assert author.reply(ask, author.digest(ask), 9, config).output_tokens == pytest.approx(60_000, rel=0.01)


def test_broken_unicode_is_answered_like_any_other_text() -> None:
    assert say(Author(1, "openai"), question("\ud800"))


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        ({"type": "string"}, "words"),
        ({"type": "string", "minLength": 8}, "words..."),
        ({"type": "string", "maxLength": 3}, "wor"),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 5}, 5),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "number", "exclusiveMinimum": 0}, 1.0),
        ({"type": "boolean"}, True),
        ({"type": ["null", "integer"]}, 0),
        ({"type": "null"}, None),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"type": "array"}, ["words"]),
        ({"properties": {"a": {"type": "OBJECT"}}}, {"a": {}}),
        ({"type": 6, "properties": {"a": {"type": 5, "items": {"type": 3}}}}, {"a": [0]}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 0),
        ({"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}, {"a": 0}),
    ],
    ids=str,
)
def test_an_instance_fits_its_schema(schema: dict[str, Any], instance: Any) -> None:
    assert example(schema, "words") == instance


def test_a_schema_that_contains_itself_has_an_end() -> None:
    node: dict[str, Any] = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert example(node, "words") == {"next": {"next": {}}}
