"""The name of a results file's batch: the same command finds it again, even after the folder was moved.

A file beside the state folder, or below that place, is named relative to the folder that holds both:
`./results/a.csv`. A file within the state folder is `<state>/results/a.csv`. Any other file keeps its full
path, and so does every file if the database is not in the state folder: several folders may share it.

Earlier versions named every batch by its full path. Such a batch is renamed when it is run again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..bootstrap import Setup
from ..core.leadership import active_orchestrator
from .session import Session

if TYPE_CHECKING:
    from ..core.store import Store
    from .batch import Batch

MOST_BATCHES = 100_000
BESIDE, IN_STATE = ".", "<state>"


def named(session: Session, batch: Batch) -> Batch:
    """The batch under its name in this state. A batch that is named by a full path is renamed, once."""
    store, new = session.store, relative_name(session.setup, batch.name)
    if new == batch.name or store.reports.batch(new) is not None:
        return replace(batch, name=new)
    old = _older_name(store, batch.name, new)
    if not old:
        return replace(batch, name=new)
    if active_orchestrator(store) is not None:
        return replace(batch, name=old)  # the running orchestrator knows it by that
    store.intake.rename_batch(old, new)
    return replace(batch, name=new)


def relative_name(setup: Setup, name: str) -> str:
    """`./results/a.csv` for the full path of a file beside the state; any other name as it is."""
    state = setup.settings.state_dir
    path, home = Path(name), state.parent.resolve()
    if not isinstance(setup.database, Path) or not path.is_absolute():
        return name
    if path.is_relative_to(state.resolve()):
        return f"{IN_STATE}/{path.relative_to(state.resolve()).as_posix()}"
    if home == home.parent or not path.is_relative_to(home):
        return name
    return f"{BESIDE}/{path.relative_to(home).as_posix()}"


def _older_name(store: Store, path: str, new: str) -> str:
    """The full path that the batch was named by, here or before the folder was moved; empty if none.

    A moved folder is recognised if exactly one batch has a path with the same end, and that path is gone.
    """
    if store.reports.batch(path) is not None:
        return path
    end = new.removeprefix(IN_STATE).removeprefix(BESIDE)
    known = [row.name for row in store.reports.batches(MOST_BATCHES) if Path(row.name).is_absolute()]
    matching = [name for name in known if Path(name).as_posix().endswith(end)]
    return matching[0] if len(matching) == 1 and not Path(matching[0]).exists() else ""
