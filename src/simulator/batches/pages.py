"""What a request to the batch and file endpoints is for."""

from __future__ import annotations

from typing import NamedTuple


class Page(NamedTuple):
    """`action` is one of `faults.ACTIONS`, or "begin" for an upload. `ident` is what the address names."""

    action: str
    name: str
    ident: str
    needs_key: bool = True
