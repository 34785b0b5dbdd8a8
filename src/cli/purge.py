"""`purge`: delete prompts and answers of ended tasks; ids, costs and results files stay."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..core.event_text import purged_event
from ..errors import InputError, StoreError
from ..formatting import plural, shortened
from ..records import LOCAL
from .batch_names import relative_name
from .confirm import ask
from .session import Options, Session, prepare, session
from .shared_options import duration_option

PURGED = 0


def purge(
    options: Options, *, older_than: str | None, batch: str | None, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Purge what ended before the age, of one batch or of all, after a yes. Raises OrchestratorError."""
    if older_than is None and batch is None:
        raise InputError("purge needs --older-than AGE (such as 30d), --batch NAME, or both")
    age_s = 0.0 if older_than is None else duration_option(older_than, "--older-than")
    setup, console = prepare(options, calls_providers=False), options.console
    console.as_json = as_json
    with session(setup, console) as opened:
        name = None if batch is None else _batch_name(opened, batch)
        before = opened.now() - age_s
        found = opened.store.contents.purgeable(before, name)
        purged, freed = (0, 0) if dry_run else _delete(opened, found, before, name, yes=yes)
        if as_json:
            printed = {
                "purged": purged,
                "purgeable": sum(found.values()),
                "batches": found,
                "before": before,
                "dry_run": dry_run,
                "freed_bytes": freed,
                "simulated": setup.simulated,
            }
            sys.stdout.write(json.dumps(printed) + "\n")
            return PURGED
        if not found:
            console.note("nothing to purge")
        elif dry_run:
            console.note(f"would delete {_what(found)}")
        else:
            console.note(f"purged {plural(purged, 'task')}; ids, costs and results files stay")
            if freed > 0:
                console.note(f"the database is {freed / 1e6:,.1f} MB smaller")
    return PURGED


def _what(found: dict[str, int]) -> str:
    tasks = plural(sum(found.values()), "task")
    return f"prompts and answers of {tasks} ({shortened(list(found))})"


def _batch_name(opened: Session, given: str) -> str:
    """The batch of this name, or of the results file at this path. Raises InputError."""
    names = dict.fromkeys((given, relative_name(opened.setup, str(Path(given).resolve()))))
    for name in names:
        if opened.store.reports.batch(name) is not None:
            return name
    known = shortened([row.name for row in opened.store.reports.batches(20)]) or "none"
    raise InputError(f"--batch: no batch {given!r} (the newest: {known})")


def _delete(
    opened: Session, found: dict[str, int], before: float, batch: str | None, *, yes: bool
) -> tuple[int, int]:
    """Purge after a yes; returns of how many tasks, and by how many bytes the file is smaller."""
    if not found:
        if batch is None:  # events can be older than all contents
            opened.store.contents.purge_events(before)
        return 0, 0
    if not yes:
        ask(f"{_what(found)} will be deleted, which can't be undone", "--yes deletes them")
    return _purge(opened, before, batch), _compact(opened)


def _purge(opened: Session, before: float, batch: str | None) -> int:
    contents = opened.store.contents
    purged = contents.purge(before, batch)
    if batch is None:
        contents.purge_events(before)
    opened.store.events.add([purged_event(opened.now(), LOCAL, purged, batch or "")])
    return purged


def _compact(opened: Session) -> int:
    """Make an SQLite file smaller, unless an orchestrator uses it; returns by how many bytes."""
    if not opened.store.database.is_sqlite:
        return 0
    with opened.leadership() as leadership:  # none can start meanwhile
        try:
            leadership.acquire(say=opened.note)
        except StoreError:
            opened.note("the file keeps its size while an orchestrator runs; new tasks use the freed space")
            return 0
        try:
            return opened.store.contents.compact()
        except StoreError as error:
            opened.note(f"the file keeps its size: {error}")
    return 0
