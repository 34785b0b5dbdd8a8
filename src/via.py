"""The name of this process in the header `Via`: a gateway recognises requests that it has sent itself."""

from __future__ import annotations

import os
import secrets

_STEM = f"agent-orchestrator-{secrets.token_hex(6)}"


def via_name() -> str:
    """The name. A forked process has another one."""
    return f"{_STEM}-{os.getpid()}"


def via(before: str = "") -> str:
    """The header of a request that is passed on; `before` is the one that it came with."""
    own = f"1.1 {via_name()}"
    return f"{before}, {own}" if before else own
