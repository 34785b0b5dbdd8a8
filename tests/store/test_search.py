"""The search for words: what it finds, and what it forgets."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.core.store import Store, TaskSelection, search, search_index, search_text, selection, tasks, terms_of
from src.core.store.search_text import Term, words_of
from src.messages import Message
from src.records import Task, TaskStatus

from .makers import NOW, a_result, a_task, register, with_claims

QUEUED, SUCCEEDED = TaskStatus.QUEUED, TaskStatus.SUCCEEDED


def index_all(store: Store) -> int:
    assert store.search.prepare()
    indexed = 0
    while some := store.search.index_some():
        indexed += some
    return indexed


def found(store: Store, text: str, size: int = 50, **filters: Any) -> list[str]:
    """The ids on all pages."""
    only = TaskSelection(search=text, **filters)
    page = store.tasks.page(size, only)
    rows = list(page.rows)
    while (before := page.next_before) is not None or page.next_after is not None:
        page = store.tasks.page(size, only, before=before, after=page.next_after)
        rows += page.rows
    return [row.id for row in rows]


def answered(store: Store, *texts: tuple[str, str], **fields: Any) -> None:
    """Store and finish a task for each (prompt, answer): t0, t1, ..."""
    added = [a_task(f"t{i}", prompt=prompt, **fields) for i, (prompt, _) in enumerate(texts)]
    claimed = with_claims(store, *added)
    answers = {f"t{i}": answer for i, (_, answer) in enumerate(texts)}
    store.queue.finish("me", [a_result(task, output=answers[task.id]) for task in claimed])


@pytest.fixture
def texts(store: Store) -> Store:
    answered(
        store,
        ("What is the refund policy?", "Customers get their money back within 30 days."),
        ("Translate: Müller can't sign-in", "Müller kann sich nicht anmelden."),
        ("東京の天気は", "晴れです。"),
        ('Escape "quotes" and \\ AND OR NOT NEAR(x) col:y ^z *', "policy of the refund; refunds_2024"),
        ("Ты знаешь?", "Да, ЗНАЮ. İstanbul, naïve façade, हिन्दी में"),
    )
    assert index_all(store) == 5
    return store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("refund", ["t3", "t0"]),
        ("REFUND Policy", ["t3", "t0"]),
        ('"refund policy"', ["t0"]),
        ('"refund policy', ["t0"]),
        ("refund*", ["t3", "t0"]),
        ("refunds*", ["t3"]),
        ("ref", []),
        ('"the ref" *', []),
        ("refund money", ["t0"]),
        ("muller", ["t1"]),
        ("MÜLLER", ["t1"]),
        ("sign-in", ["t1"]),
        ("in-sign", []),
        ("sign_in", ["t1"]),
        ("can't", ["t1"]),
        ("東京", ["t2"]),
        ("京東", []),
        ("天気 晴れ", ["t2"]),
        ("знаю", ["t4"]),
        ("facade naive", ["t4"]),
        ("हिन्दी", ["t4"]),
        ("and or not near", ["t3"]),
        ("NEAR(x)", ["t3"]),
        ("col:y", ["t3"]),
        ("2024", ["t3"]),
        ("t0", []),  # an id is no word of the text
        ("nothing", []),
        ("", ["t4", "t3", "t2", "t1", "t0"]),  # no search
        ("***", []),
        ('"', []),
    ],
)
def test_a_search_finds_the_tasks_with_all_its_terms(texts: Store, text: str, expected: list[str]) -> None:
    for size in (1, 50):
        assert found(texts, text, size) == expected
    assert found(texts, text, oldest_first=True) == expected[::-1]


def has(words: list[str], term: Term) -> bool:
    """Whether the words of a term follow each other in `words`."""
    n = len(term.words)
    for i in range(len(words) - n + 1):
        here = tuple(words[i : i + n])
        if here[:-1] == term.words[:-1] and (
            here[-1].startswith(term.words[-1]) if term.is_prefix else here[-1] == term.words[-1]
        ):
            return True
    return False


WORDS = st.sampled_from(
    ["a", "ab", "abc", "b", "é", "東", "京", "1", "x_y", "A-b", "'", '"', "*", "\\", "|", "&"]
)
PIECES = st.one_of(WORDS, st.text(max_size=4))
TEXTS = st.lists(PIECES, max_size=8).map(" ".join)
_batches = itertools.count()
QUERIES = st.one_of(
    st.text(max_size=30), st.lists(PIECES, max_size=4).map(" ".join), TEXTS.map('"{}"'.format)
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_text_is_a_search_and_finds_what_has_its_words(texts: Store, data: st.DataObject) -> None:
    """Both databases find what a plain comparison of words finds."""
    made = data.draw(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
    batch = f"b{next(_batches)}"
    added = [a_task(f"t{i}", batch, prompt=f"p {prompt}") for i, (prompt, _) in enumerate(made)]
    texts.intake.add_tasks(added, now=NOW)
    claimed = {task.id: task for task in texts.queue.claim("me", 10, now=NOW)}
    results = [a_result(claimed[f"t{i}"], output=answer) for i, (_, answer) in enumerate(made)]
    texts.queue.finish("me", results)
    index_all(texts)
    for query in data.draw(st.lists(QUERIES, min_size=1, max_size=5)):
        terms = terms_of(query)
        expected = [
            f"t{i}"
            for i, (prompt, answer) in enumerate(made)
            if all(has(words_of(f"p {prompt}") + words_of(results[i].output or ""), term) for term in terms)
        ]
        if terms:
            assert found(texts, query, batch=batch, oldest_first=True) == expected
    texts.admin.retry(batch, [task.id for task in added], now=NOW)
    assert found(texts, "p", batch=batch) == []
    texts.admin.cancel(batch, now=NOW)  # the next example claims its own tasks


def test_only_ended_tasks_are_found(store: Store) -> None:
    claimed = with_claims(store, a_task("done", prompt="word"), a_task("running", prompt="word"))
    store.intake.add_tasks([a_task("queued", prompt="word"), a_task("gone", prompt="word")], now=NOW)
    store.queue.finish("me", [a_result(claimed[0])])
    store.admin.cancel("b", ["gone"], now=NOW)
    index_all(store)
    assert found(store, "word") == ["gone", "done"]
    assert store.search.progress() == search.SearchProgress(True, True, 0)


def test_the_index_grows_in_steps_newest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "AT_ONCE", 2)
    monkeypatch.setattr(search, "COUNTED", 3)
    answered(store, *(("word", "") for _ in range(5)))
    assert store.search.progress() == search.SearchProgress(True, False, 4)
    assert store.search.index_some() == 0, "the index does not exist yet"
    assert found(store, "word") == []
    assert store.search.prepare() and store.search.prepare()
    assert store.search.index_some() == 2
    assert found(store, "word") == ["t4", "t3"]
    assert store.search.progress().behind == 3
    store.intake.add_tasks([a_task("new", prompt="word")], now=NOW)
    store.queue.finish("me", [a_result(task) for task in store.queue.claim("me", 1, now=NOW)])
    store.search.index_some()
    assert found(store, "word") == ["new", "t4", "t3", "t2"]


def test_a_step_with_long_texts_has_fewer_tasks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WORDS_AT_ONCE", 10)
    answered(store, *(("word " * 8, "") for _ in range(3)))
    store.search.prepare()
    assert [store.search.index_some() for _ in range(4)] == [1, 1, 1, 0]


def test_texts_are_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_text, "INDEXED_CHARS", 20)
    answered(store, ("early " + "x" * 20 + " late", "soon " + "y" * 200))
    index_all(store)
    assert [found(store, word) for word in ("early", "late", "soon")] == [["t0"], [], ["t0"]]
    assert found(store, "y" * 15) == ["t0"], "a word is cut with its text"


def test_a_long_word_is_found_whole_or_by_its_beginning(store: Store) -> None:
    answered(store, ("a" * 300, "b " * 20_000))
    index_all(store)
    assert found(store, "a" * 300) == found(store, "aaa*") == found(store, "b") == ["t0"]


def test_a_prefix_stands_for_a_limited_number_of_words(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_index, "PREFIX_WORDS", 2)
    answered(store, ("word", ""), ("word1", ""), ("word2", ""))
    index_all(store)
    assert found(store, "word*") == (["t1", "t0"] if store.database.is_sqlite else ["t2", "t1", "t0"])


# ------------------------------------------------------------------ what the index forgets


def finish_again(store: Store, answer: str) -> None:
    (task,) = store.queue.claim("me", 1, now=NOW + 20)
    store.queue.finish("me", [a_result(task, output=answer)])
    index_all(store)


@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_task_that_runs_again_is_found_by_its_new_answer_alone(store: Store, is_indexed: bool) -> None:
    answered(store, ("question", "first"))
    if is_indexed:
        index_all(store)
    store.admin.retry("b", ["t0"], now=NOW)
    assert found(store, "question") == []
    finish_again(store, "second")
    assert [found(store, word) for word in ("question", "first", "second")] == [["t0"], [], ["t0"]]
    assert no_word_left(store, "first")


def no_word_left(store: Store, word: str) -> bool:
    """Whether not even the index itself knows the word."""
    with store.database.reading() as connection:
        if store.database.is_sqlite:
            count = "SELECT count(*) FROM search_vocabulary WHERE term = ?"
            return not connection.exec_driver_sql(count, (word,)).scalar()
        count = f"SELECT count(*) FROM search_index WHERE words @@ '{word}'::tsquery"  # noqa: S608 - ours
        return not connection.exec_driver_sql(count).scalar()


@pytest.mark.parametrize("is_indexed", [True, False])
def test_purged_tasks_are_forgotten(store: Store, is_indexed: bool) -> None:
    answered(store, ("secret", "hidden"), ("plain", "open"))
    if is_indexed:
        index_all(store)
    assert store.contents.purge(NOW + 11) == 2
    index_all(store)
    assert found(store, "secret") == found(store, "open") == []
    assert no_word_left(store, "secret") and no_word_left(store, "hidden")
    assert store.search.progress().behind == 0


def test_a_prompt_that_is_put_back_is_found_again(store: Store) -> None:
    answered(store, ("secret", "hidden"))
    index_all(store)
    store.contents.purge(NOW + 11)
    assert store.contents.restore([a_task("t0", prompt="secret")]) == 1
    index_all(store)
    assert [found(store, word) for word in ("secret", "hidden")] == [["t0"], []]


def test_a_task_with_other_content_is_forgotten_until_it_ends(store: Store) -> None:
    answered(store, ("before", "first"))
    index_all(store)
    store.intake.add_tasks([a_task("t0", prompt="after")], now=NOW + 1, rerun_changed=True)
    assert found(store, "before") == []
    finish_again(store, "second")
    words = ("before", "first", "after", "second")
    assert [found(store, word) for word in words] == [[], [], ["t0"], ["t0"]]
    assert no_word_left(store, "before")


def test_duplicates_are_found_too(store: Store) -> None:
    register(store)
    same = [a_task("t0", prompt="same"), a_task("t1", prompt="same")]
    store.intake.add_tasks(same, now=NOW, once=True)
    (task,) = store.queue.claim("me", 5, now=NOW)
    store.queue.finish("me", [a_result(task, output="shared")])
    index_all(store)
    assert found(store, "shared") == ["t1", "t0"]


def test_a_dropped_index_is_made_again_from_everything(store: Store) -> None:
    answered(store, ("word", ""), ("word", ""))
    index_all(store)
    store.search.drop()
    assert not store.search.progress().is_ready
    assert found(store, "word") == []
    store.admin.retry("b", ["t0"], now=NOW)
    store.search.drop()
    assert index_all(store) == 1
    assert found(store, "word") == ["t1"]


def test_an_index_of_another_version_is_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(store, ("word", ""))
    index_all(store)
    for module in (search, search_index):
        monkeypatch.setattr(module, "VERSION", 99)
    assert found(store, "word") == [], "its words may be others"
    assert index_all(store) == 1
    assert found(store, "word") == ["t0"]


def test_a_change_between_reading_and_writing_is_noticed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(store, ("word", "first"), ("word", "other"))
    store.search.prepare()
    add = store.search._add

    def change_first(*args: Any) -> int:
        store.admin.retry("b", ["t0"], now=NOW + 20)
        (task,) = store.queue.claim("me", 1, now=NOW + 20)
        store.queue.finish("me", [replace(a_result(task, output="second"), finished_at=NOW + 30)])
        return add(*args)

    monkeypatch.setattr(store.search, "_add", change_first)
    assert store.search.index_some() == 1
    monkeypatch.undo()
    index_all(store)
    assert [found(store, word) for word in ("first", "second")] == [[], ["t0"]]


# ------------------------------------------------------------------ with other filters


def test_a_search_within_other_filters(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "FOUND", 3)
    mine = [a_task(f"t{i}", prompt="word", submitter="alice") for i in range(3)]
    others = [a_task(f"x{i}", "queue", prompt="word", task_type="research") for i in range(5)]
    claimed = with_claims(store, *mine, *others)
    failed = [task for task in claimed if task.id in ("t1", "x1")]
    store.queue.finish("me", [a_result(task) for task in claimed if task not in failed])
    store.intake.add_tasks([], now=NOW)
    store.queue.finish(
        "me", [a_result(task, status=TaskStatus.FAILED, error="E", output=None) for task in failed]
    )
    index_all(store)
    for size in (1, 2, 50):
        assert found(store, "word", size, submitter="alice") == ["t2", "t1", "t0"]
        assert found(store, "word", size, batch="queue") == ["x4", "x3", "x2", "x1", "x0"]
        assert found(store, "word", size, batch="queue", submitter="alice") == []
        assert found(store, "word", size, task_type="research", statuses=[TaskStatus.FAILED]) == ["x1"]
        assert found(store, "word", size, owner="alice", shared=["queue"]) == ["t2", "t1", "t0"]
        assert found(store, "word", size, id_prefix="t") == ["t2", "t1", "t0"]
        assert found(store, "word", size, batch="unknown") == []
    monkeypatch.setattr(selection, "MANY_STREAMS", 0)
    monkeypatch.setattr(selection, "SEARCHED_STREAMS", 0)
    assert found(store, "word", 2, submitter="alice") == ["t2", "t1", "t0"]


@pytest.mark.parametrize("oldest_first", [False, True])
def test_blocks_of_rows_do_not_show(
    store: Store, monkeypatch: pytest.MonkeyPatch, oldest_first: bool
) -> None:
    monkeypatch.setattr(search_index, "BLOCK_ROWS", 3)
    answered(store, *(("word" if i % 4 else "other", "") for i in range(23)))
    index_all(store)
    expected = [f"t{i}" for i in range(23) if i % 4]
    for size in (1, 4, 50):
        assert found(store, "word", size, oldest_first=oldest_first) == expected[:: 1 if oldest_first else -1]


# ------------------------------------------------------------------ without FTS5


def test_a_database_without_the_module_has_no_search(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if not store.database.is_sqlite:
        pytest.skip("PostgreSQL always has its search")
    answered(store, ("word", ""), ("word", ""))
    index = store.search._index
    index._has_module = False
    assert store.search.prepare() is False
    assert store.search.progress().is_ready is False
    index._has_module = True
    index_all(store)
    index._has_module = False
    store.admin.retry("b", ["t1"], now=NOW)  # it can't be removed from the index, which is then made again
    index._has_module = True
    assert store.search.progress().is_ready is False
    finish_again(store, "new")
    assert found(store, "word") == ["t1", "t0"]
    assert found(store, "new") == ["t1"]


def test_a_message_that_is_no_text_is_left_out() -> None:
    assert search_text.document_words('{"messages": [["user", [1]], ["user", "word"]]}', None) == ["word"]
    assert isinstance(Task("i", "b", (Message("user", "x"),)).messages[0].content, str)
