"""`drain-workers`: let the workers of this machine finish before its Ray node is stopped."""

from __future__ import annotations

from ..formatting import plural
from .session import Options

DRAINED, BUSY = 0, 1


def drain_workers(options: Options, *, wait_s: float) -> int:
    """Wait until they hold nothing. Returns the exit code. Raises ConfigError where no Ray node runs here."""
    from ..bootstrap import drain_node

    found = drain_node(wait_s)
    if found.busy:
        still = f"{plural(found.busy, 'worker')} still in use after {wait_s:g} s"
        options.console.note(f"{still}; what they hold is lost when Ray is stopped")
        return BUSY
    options.console.note(f"drained {plural(found.idle, 'worker')}; Ray can be stopped on this machine")
    return DRAINED
