"""Keys are masked wherever a text of others may carry them, and ordinary words are left."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.masking import KeyMask, without_keys


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the key sk-proj-abcDEF123456, sorry", "the key sk-***, sorry"),
        ("the key rk_live_abcDEF123456", "the key rk_***"),
        ("sent AIzaSyA-1234567890abcdef to", "sent AIza*** to"),
        ("Bearer abcdefgh+/12== refused", "Bearer *** refused"),
        ("Basic dXNlcjpwYXNzd29yZA== refused", "Basic *** refused"),
        ("Incorrect key: sk-abc********xyz", "Incorrect key: sk-***"),
        ("Invalid key Zq1x****9fKd", "Invalid key ***"),
        ("https://hooks.slack.com/services/T1/B1/x", "https://***"),
        ("risk-adjusted skeletons: basic authentication failed (sk-1)",) * 2,
        ("no task-force here, no sk- either, a Basic plan",) * 2,
    ],
)
def test_what_looks_like_a_key_is_masked_and_nothing_else(text: str, shown: str) -> None:
    assert without_keys(text) == shown


KEY = "sk-proj-Ab3dEf6hIj9lMn2pQr5t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"bad key {KEY}!", "bad key ***!"),
        (f"bad key {KEY[:12]}\n    {KEY[12:]}!", "bad key ***!"),
        (f"bad key '{KEY[:12]}' + '{KEY[12:]}'", "bad key '***'"),
        (f"bad key {KEY[:9]}\\n{KEY[9:20]}\\n{KEY[20:]}", "bad key ***"),
        (f"bad key {' '.join(KEY)}.", "bad key ***."),
        (f"begins with {KEY[:12]}, ends with {KEY[-8:]}", "begins with ***, ends with ***"),
        (f"{KEY[4:16]} and {KEY[10:24]}", "*** and ***"),
        (f"{KEY[:12]}{KEY[:12]}", "***"),
        ("no key, and only its end: " + KEY[-7:],) * 2,
        ("a project of yours",) * 2,
    ],
)
def test_a_known_key_is_masked_whole_and_in_pieces(text: str, shown: str) -> None:
    assert KeyMask(KEY).everywhere(text) == shown


@given(st.text(), st.lists(st.integers(0, len(KEY)), max_size=4), st.text(alphabet=" \n\t\"',+", max_size=4))
def test_no_piece_of_a_key_is_left_however_it_is_broken(around: str, cuts: list[int], between: str) -> None:
    edges = [0, *sorted(cuts), len(KEY)]
    broken = between.join(KEY[a:b] for a, b in pairwise(edges))
    shown = KeyMask(KEY).everywhere(f"{around}{broken}{around}")
    assert not any(KEY[at : at + 8] in shown for at in range(len(KEY) - 7))


@pytest.mark.parametrize("key", ["", "k", "ollama"])
def test_a_short_key_is_masked_whole_only(key: str) -> None:
    assert KeyMask(key).everywhere("o l l a m a, llama and 1") == "o l l a m a, llama and 1"
    assert repr(KeyMask(KEY)) == "<KeyMask>"
