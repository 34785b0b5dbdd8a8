"""Keys are masked wherever a text of others may carry them, and ordinary words are left."""

from __future__ import annotations

import pytest

from src.masking import without_keys


@pytest.mark.parametrize(
    ("said", "shown"),
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
def test_what_looks_like_a_key_is_masked_and_nothing_else(said: str, shown: str) -> None:
    assert without_keys(said) == shown
