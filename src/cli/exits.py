"""How commands end, for whoever starts them: a script, systemd, a container."""

from __future__ import annotations

from ..errors import OrchestratorError, StoreError

ALL_ANSWERED = 0
SOME_NOT = STOPPED = 1
INPUT_IS_WRONG = 2  # or the configuration: trying again would not mend it
STORE_REFUSES = 3  # trying again later may do


def exit_code(error: OrchestratorError) -> int:
    """What an error that ends a command makes its exit code."""
    return STORE_REFUSES if isinstance(error, StoreError) else INPUT_IS_WRONG
