"""The index of words, inside its caller's transaction: SQLite's FTS5, PostgreSQL's tsvector with GIN.

Both get the words of `search_text`, so they find the same tasks. A task is in the index exactly while it is
final, has its content, and is not in `search_backlog`.

The index keeps no second copy of the texts. FTS5 then forgets a task only if it is given the same words
again, so `forget` must be called before prompt or answer change.

A stream is a word too, in a column of its own, so that a search within a submitter or a batch costs no more.

FTS5 gives rows in order for words, but gathers all rows of a prefix first: eleven seconds for a common one
at a million tasks. So a prefix becomes the words that begin with it, the first `PREFIX_WORDS` of them, which
FTS5 lists. PostgreSQL gathers all rows for words too. There a task also has the word of its block of rows,
and a search reads the newest blocks first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from . import schema
from .database import Database
from .loading import IN_SIZE, parts
from .named_rows import Among
from .schema import IS_FINAL
from .search_schema import SEARCH_INDEX, search_backlog
from .search_text import VERSION, Term, document_words
from .selection import RowRange

META_KEY = "search_index"  # in `meta`: the version of its words; STALE: it misses tasks; no row: never made
STALE = 0
BLOCK_ROWS = 16_384  # PostgreSQL: of one block
PREFIX_WORDS = 50  # SQLite: that a prefix stands for at most
_T = schema.tasks.c
_P = schema.prompts.c
_B = search_backlog.c
_M = schema.meta.c
_ADVISORY_LOCK = 0x0A6E_7501
_MAX_POSITION = 16_383  # of tsvector; later words share it
_MAX_VECTOR_BYTES = 900_000  # PostgreSQL takes less than a megabyte

_FTS5 = (
    f"CREATE VIRTUAL TABLE {SEARCH_INDEX} "
    "USING fts5(streams, words, content='', columnsize=0, tokenize='ascii')"
)
_VOCABULARY = f"CREATE VIRTUAL TABLE search_vocabulary USING fts5vocab({SEARCH_INDEX}, row)"
_WORDS = "SELECT term FROM search_vocabulary WHERE term >= ? AND term < ? LIMIT ?"
_LAST_CHARACTER = "\U0010ffff"
_TSVECTOR = f"CREATE TABLE {SEARCH_INDEX} (task_row BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)"
_GIN = f"CREATE INDEX ix_search_index ON {SEARCH_INDEX} USING gin (words) WITH (fastupdate = off)"


class Document(NamedTuple):
    """What the index has of one task."""

    row: int
    stream_id: int
    words: Sequence[str]


class SearchIndex:
    """Each method runs inside its caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._has_module: bool | None = None

    # ------------------------------------------------------------ life of the index

    def is_available(self, connection: sa.Connection) -> bool:
        """Whether this database can index words: some builds of SQLite lack FTS5."""
        if not self._database.is_sqlite:
            return True
        if self._has_module is None:
            found = "SELECT count(*) FROM pragma_module_list WHERE name = 'fts5'"
            self._has_module = bool(connection.exec_driver_sql(found).scalar())
        return self._has_module

    def version(self, connection: sa.Connection) -> int | None:
        """The version of the index; STALE if it has to be built again, None if it was never made."""
        found: int | None = connection.execute(
            sa.select(_M.value).where(_M.key == sa.literal_column(f"'{META_KEY}'"))
        ).scalar()
        return found

    def lock(self, connection: sa.Connection) -> None:
        """Keep other processes from making or removing the index until the transaction ends."""
        if not self._database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))

    def create(self, connection: sa.Connection) -> None:
        """Make an empty index, and put every final task into the backlog."""
        self.drop(connection)
        for statement in [_FTS5, _VOCABULARY] if self._database.is_sqlite else [_TSVECTOR, _GIN]:
            connection.exec_driver_sql(statement)
        final = sa.select(_T.task_row).where(IS_FINAL)
        insert = self._database.insert(search_backlog).from_select(["task_row"], final)
        connection.execute(insert.on_conflict_do_nothing())
        self._set_version(connection, VERSION)

    def drop(self, connection: sa.Connection) -> None:
        """Remove the index, which frees its space for the rest of the database."""
        if not self.is_available(connection):
            return
        for table in ["search_vocabulary", SEARCH_INDEX] if self._database.is_sqlite else [SEARCH_INDEX]:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
        self._set_version(connection, STALE)

    def _set_version(self, connection: sa.Connection, version: int) -> None:
        row = (META_KEY, version)
        self._database.replacing(schema.meta, ["value"]).many(connection, [row])

    # ------------------------------------------------------------ tasks in and out

    def note_ended(self, connection: sa.Connection, rows: Sequence[int]) -> None:
        """Add tasks that have just ended to the backlog: one small row each."""
        self._database.adding_missing(search_backlog).many(connection, [(row,) for row in rows])

    def forget(self, connection: sa.Connection, rows: Collection[int]) -> None:
        """Remove tasks that run again or lose their content, before that happens."""
        for part in parts(rows, IN_SIZE):
            waiting = sa.select(_B.task_row).where(_B.task_row.in_(part))
            indexed = set(part) - set(connection.execute(waiting).scalars())
            connection.execute(sa.delete(search_backlog).where(_B.task_row.in_(part)))
            if indexed and self.version(connection) == VERSION:
                self._remove(connection, sorted(indexed))

    def add(self, connection: sa.Connection, documents: Sequence[Document]) -> None:
        """Index tasks that are not indexed."""
        if not documents:
            return
        if self._database.is_sqlite:
            connection.exec_driver_sql(
                f"INSERT INTO {SEARCH_INDEX} (rowid, streams, words) VALUES (?, ?, ?)",  # noqa: S608
                [(each.row, f"s{each.stream_id}", " ".join(each.words)) for each in documents],
            )
        else:
            connection.exec_driver_sql(
                f"INSERT INTO {SEARCH_INDEX} (task_row, words) VALUES (%s, CAST(%s AS tsvector))",  # noqa: S608
                [(each.row, _vector(each)) for each in documents],
            )

    def _remove(self, connection: sa.Connection, rows: Sequence[int]) -> None:
        if not self._database.is_sqlite:
            table = sa.table(SEARCH_INDEX, sa.column("task_row"))
            connection.execute(sa.delete(table).where(table.c.task_row.in_(rows)))
        elif not self.is_available(connection):
            self._set_version(connection, STALE)  # a process with FTS5 builds it again, without these tasks
        elif documents := self.documents(connection, rows):
            connection.exec_driver_sql(
                f"INSERT INTO {SEARCH_INDEX} ({SEARCH_INDEX}, rowid, streams, words) "  # noqa: S608
                "VALUES ('delete', ?, ?, ?)",
                [(each.row, f"s{each.stream_id}", " ".join(each.words)) for each in documents],
            )

    def documents(self, connection: sa.Connection, rows: Sequence[int]) -> list[Document]:
        """The words of the tasks among `rows` that have their content."""
        a = schema.answers.c
        query = (
            sa.select(_T.task_row, _T.stream_id, _P.body, a.output)
            .join_from(schema.tasks, schema.prompts, _P.task_row == _T.task_row)
            .outerjoin(schema.answers, a.task_row == _T.task_row)
            .where(Among(_T.task_row))
        )
        found = connection.execute(query, {"rows": list(rows)})
        return [Document(row.task_row, row.stream_id, document_words(row.body, row.output)) for row in found]

    # ------------------------------------------------------------ find

    def rows(
        self,
        connection: sa.Connection,
        terms: Sequence[Term],
        streams: Collection[int] | None,
        within: RowRange,
        limit: int,
    ) -> list[int]:
        """Up to `limit` row numbers of tasks with all `terms`, in the order of `within`; of these `streams`,
        or of all.
        """
        if not terms or (streams is not None and not streams) or not self._can_search(connection):
            return []
        if self._database.is_sqlite:
            return self._rows_by_fts5(connection, terms, streams, within, limit)
        return self._rows_by_gin(connection, terms, streams, within, limit)

    def _can_search(self, connection: sa.Connection) -> bool:
        return self.version(connection) == VERSION and self.is_available(connection)

    def _rows_by_fts5(
        self,
        connection: sa.Connection,
        terms: Sequence[Term],
        streams: Collection[int] | None,
        within: RowRange,
        limit: int,
    ) -> list[int]:
        wanted = " AND ".join(_fts5_term(self._phrases(connection, term)) for term in terms)
        match = f"words : ({wanted})"
        if streams is not None:
            match += f" AND streams : ({' OR '.join(f's{number}' for number in sorted(streams))})"
        found = connection.exec_driver_sql(
            f"SELECT rowid FROM {SEARCH_INDEX} WHERE {SEARCH_INDEX} MATCH ? AND rowid >= ? AND rowid < ? "  # noqa: S608
            f"ORDER BY rowid {_direction(within)} LIMIT ?",
            (match, within.low, within.high, limit),
        )
        return list(found.scalars())

    def _phrases(self, connection: sa.Connection, term: Term) -> list[tuple[str, ...]]:
        """The phrases that a term stands for, one of which a task must have."""
        *first, last = term.words
        if not term.is_prefix:
            return [term.words]
        found = connection.exec_driver_sql(_WORDS, (last, last + _LAST_CHARACTER, PREFIX_WORDS))
        return [(*first, word) for word in found.scalars()] or [term.words]

    def _rows_by_gin(
        self,
        connection: sa.Connection,
        terms: Sequence[Term],
        streams: Collection[int] | None,
        within: RowRange,
        limit: int,
    ) -> list[int]:
        """Block by block, and more blocks at a time while there is little in them."""
        wanted = [_tsquery_term(term) for term in terms]
        if streams is not None:
            wanted.append(f"({' | '.join(_quoted(_stream_word(number)) for number in sorted(streams))})")
        table = sa.table(SEARCH_INDEX, sa.column("task_row"))
        newest: int = connection.execute(sa.select(sa.func.max(table.c.task_row))).scalar() or 0
        blocks = range(within.low // BLOCK_ROWS, min(newest, within.high - 1) // BLOCK_ROWS + 1)
        found: list[int] = []
        many = 1
        while blocks and len(found) < limit:
            these, blocks = (
                (blocks[:many], blocks[many:]) if within.oldest_first else (blocks[-many:], blocks[:-many])
            )
            of_blocks = " | ".join(_quoted(_block_word(number)) for number in these)
            rows = connection.exec_driver_sql(
                # Apart from the order, or the planner reads all rows in this order and checks their words.
                f"WITH found AS MATERIALIZED (SELECT task_row FROM {SEARCH_INDEX} "  # noqa: S608
                "WHERE words @@ CAST(%s AS tsquery)) "
                "SELECT task_row FROM found WHERE task_row >= %s AND task_row < %s "
                f"ORDER BY task_row {_direction(within)} LIMIT %s",
                (" & ".join([*wanted, f"({of_blocks})"]), within.low, within.high, limit - len(found)),
            )
            found += rows.scalars()
            many *= 2
        return found


def _direction(within: RowRange) -> str:
    return "ASC" if within.oldest_first else "DESC"


def _fts5_term(phrases: Sequence[Sequence[str]]) -> str:
    """Words are letters and digits, so quotes are all that FTS5 needs."""
    return "(" + " OR ".join(f'"{" ".join(words)}"' for words in phrases) + ")"


def _tsquery_term(term: Term) -> str:
    words = [_quoted(word) for word in term.words]
    if term.is_prefix:
        words[-1] += ":*"
    return f"({' <-> '.join(words)})"


def _quoted(word: str) -> str:
    return f"'{word}'"


def _stream_word(stream_id: int) -> str:
    return f"#s{stream_id}"  # no word of a text begins so


def _block_word(block: int) -> str:
    return f"#b{block}"


def _vector(document: Document) -> str:
    """The text form of a tsvector. PostgreSQL keeps up to 256 positions of a word, for phrases."""
    places: dict[str, list[int]] = {}
    size = 0
    for place, word in enumerate(document.words, 1):
        found = places.get(word)
        if found is None:
            size += len(word.encode()) + 4
            found = places[word] = []
        if len(found) < 255:
            size += 2
            found.append(min(place, _MAX_POSITION))
        if size > _MAX_VECTOR_BYTES:
            break
    vector = [f"'{word}':{','.join(map(str, found))}" for word, found in places.items()]
    vector += [_quoted(_stream_word(document.stream_id)), _quoted(_block_word(document.row // BLOCK_ROWS))]
    return " ".join(vector)


__all__ = ["BLOCK_ROWS", "Document", "SearchIndex"]
