"""What may be a secret in an address is neither shown nor kept."""

from __future__ import annotations

import pytest

from src.addresses import masked_address, without_secrets


@pytest.mark.parametrize(
    ("url", "shown", "kept"),
    [
        ("https://api.example/v1", "https://api.example/v1", "https://api.example/v1"),
        ("https://TOKEN@api.example/v1", "https://***@api.example/v1", "https://api.example/v1"),
        ("https://TOKEN:x@api.example:8443", "https://***@api.example:8443", "https://api.example:8443"),
        ("https://api.example/v1?key=TOKEN#TOKEN", "https://api.example/v1", "https://api.example/v1"),
        ("postgresql://me:TOKEN@db/tasks", "postgresql://me:***@db/tasks", "postgresql://db/tasks"),
        ("postgresql://me@db/tasks", "postgresql://me@db/tasks", "postgresql://db/tasks"),
        ("postgresql://me:TO/K@E?N@db/tasks", "postgresql://me:***@db/tasks", "postgresql://db/tasks"),
        ("postgresql://db/tasks?password=TOKEN", "postgresql://db/tasks", "postgresql://db/tasks"),
        ("sqlite:///folder/file.db", "sqlite:///folder/file.db", "sqlite:///folder/file.db"),
        ("TOKEN@host", "***@host", "host"),
    ],
)
def test_secrets_are_taken_out_of_an_address(url: str, shown: str, kept: str) -> None:
    assert masked_address(url) == shown
    address, secret = without_secrets(url)
    assert address == kept
    assert len(address) + len(secret) == len(url), "all of it is kept, since it distinguishes accounts"
