"""The exit codes of the commands. `OrchestratorError.exit_code` has those of errors."""

from __future__ import annotations

from ..errors import OrchestratorError, StoreError

ALL_ANSWERED = 0
SOME_UNANSWERED = STOPPED = 1
WRONG_INPUT = OrchestratorError.exit_code
STORE_UNAVAILABLE = StoreError.exit_code
