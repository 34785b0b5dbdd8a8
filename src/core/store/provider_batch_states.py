"""The states of a provider's batch, and what may follow each. Pure.

    intended --create--> creating --submitted--> submitted --cancel--> cancelling
       ^                    |                        |                     |
       +----not created-----+                        +------- end ---------+--> ended --collect--> collected

    intended, creating, submitted, cancelling --fail--> failed

- `intended`: its tasks are in it, and their money is reserved. Nothing was sent.
- `creating`: committed before the request is sent. After a kill the batch is looked for by its marker; where
  the provider has none, `not created` leads back, and it may be sent again.
- `submitted`: the provider has named it. Results may be stored from here on.
- `cancelling`: committed before the request is sent; rows that are done stay done.
- `ended`: the provider works on no row any more. `collected`: each row has its end in the store.
- `failed`: the provider has done no row. The tasks have left it before.

Each transition is one transaction of the leader. An event that its state does not take raises StoreError and
changes nothing; one that has led to the present state already is a repetition and changes nothing either.
"""

from __future__ import annotations

from enum import StrEnum


class BatchState(StrEnum):
    """Where a provider's batch stands."""

    INTENDED = "intended"
    CREATING = "creating"
    SUBMITTED = "submitted"
    CANCELLING = "cancelling"
    ENDED = "ended"
    COLLECTED = "collected"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        """Whether something is left to do for it."""
        return self not in CLOSED_STATES


CLOSED_STATES = (BatchState.COLLECTED, BatchState.FAILED)
OPEN_STATES = tuple(state for state in BatchState if state not in CLOSED_STATES)
TAKES_RESULTS = (BatchState.SUBMITTED, BatchState.CANCELLING, BatchState.ENDED)

_AFTER: dict[BatchState, frozenset[BatchState]] = {
    BatchState.INTENDED: frozenset({BatchState.CREATING, BatchState.FAILED}),
    BatchState.CREATING: frozenset({BatchState.INTENDED, BatchState.SUBMITTED, BatchState.FAILED}),
    BatchState.SUBMITTED: frozenset({BatchState.CANCELLING, BatchState.ENDED, BatchState.FAILED}),
    BatchState.CANCELLING: frozenset({BatchState.ENDED, BatchState.FAILED}),
    BatchState.ENDED: frozenset({BatchState.COLLECTED}),
    BatchState.COLLECTED: frozenset(),
    BatchState.FAILED: frozenset(),
}


def may_follow(state: BatchState, new: BatchState) -> bool:
    """Whether a batch goes from `state` to `new` in one step."""
    return new in _AFTER[state]
