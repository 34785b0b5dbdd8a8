"""Results as CSV: the cells, and files that are cut off, resumed or of something else."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from src.core.results import ResultsFile, form_of, holds_simulated
from src.core.results.csv_table import CsvForm
from src.errors import InputError
from src.records import Message, Result, Task, TaskStatus

from .test_results import result

BEGIN = ["id", "line", "status", "output", "finish_reason", "truncated", "error", "warnings"]


def of(task_id: str, metadata: dict[str, Any], **changes: Any) -> Result:
    task = Task(task_id, "b", (Message("user", "Hi"),), metadata=metadata, line=3)
    return result(task_id, **{"task": task, **changes})


def records(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


def test_a_record_holds_the_row_and_the_columns_of_the_input_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with ResultsFile(path, simulated=True) as file:
        file.add_columns(["name", "output", "metadata.x"])
        file.append([of("a", {"name": "Ann", "output": "gold", "metadata.x": "1"})])
        file.append([of("b", {"name": "Bo", "other": [1]}, output=None, warnings=("one", "two"))])
    first, second = records(path)
    assert list(first) == [
        *BEGIN, "provider", "model", "agent", "task_type", "tier", "cost_usd", "latency_s", "simulated",
        "deduplicated_from", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
        "reasoning_tokens", "attempts", "name", "metadata.output", "metadata.x", "metadata",
    ]  # fmt: skip
    assert (first["id"], first["line"], first["output"], first["simulated"]) == ("a", "3", "Hello", "true")
    assert (first["name"], first["metadata.output"], first["metadata"]) == ("Ann", "gold", "")
    assert (second["output"], second["warnings"], second["metadata"]) == ("", "one; two", '{"other":[1]}')
    assert path.stat().st_mode & 0o777 == 0o600


def test_rows_with_line_ends_in_their_cells_are_removed_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with ResultsFile(path, simulated=True) as file:
        file.add_columns(["name"])
        file.append([of(name, {"name": name}, output='one\n"two"\r\n') for name in "abc"])
        assert file.drop(["b"]) == 1
        assert list(file.ids()) == ["a", "c"]
        assert file.drop(["a", "c"]) == 2
        file.append([of("d", {"name": "Di"})])
    (row,) = records(path)
    assert (row["id"], row["name"]) == ("d", "Di")


def test_metadata_without_a_column_is_json(tmp_path: Path) -> None:
    path = tmp_path / "out.tsv"
    with ResultsFile(path, simulated=True) as file:
        file.append([of("a", {"k": 1, "name": "Ann"})])
    (row,) = records(path, "\t")
    assert list(row)[-2:] == ["attempts", "metadata"] and row["metadata"] == '{"k":1,"name":"Ann"}'


AS_IT_IS = [
    "=1+1", "- a list\n- of two", "+49 30 1234", "@you", "-5", "+1.5e3", "\tindented", "\uff1d1", "'quoted'",
    '"=1"', 'say "no", and\r\nthen', "a\rb", "\r\n", " edges ", "x" * 200_000, "a;b,c\td|e", "007", "1e5",
    "NULL", "\ufeffBOM", "Grüße 🌍", "\u2028", "\x1b[31mred", "\\N",
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_an_answer_is_read_back_from_a_table_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with ResultsFile(path, simulated=True) as file:
        file.append([of(f"={n}", {"own": text}, output=text) for n, text in enumerate(AS_IT_IS)])
    rows = records(path, CsvForm.DELIMITERS[suffix])
    assert [row["output"] for row in rows] == AS_IT_IS
    with ResultsFile(path, simulated=True) as file:
        assert list(file.ids()) == [f"={n}" for n in range(len(AS_IT_IS))]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("- a list", "'- a list"),
        ("+49 30", "'+49 30"),
        ("@you", "'@you"),
        ("\tx", "'\tx"),
        ("-5", "-5"),
        ("+1.5e3", "+1.5e3"),
        ("plain = 1", "plain = 1"),
    ],
)
def test_an_excel_safe_table_holds_formulas_as_text(tmp_path: Path, text: str, cell: str) -> None:
    path = tmp_path / "out.csv"
    with ResultsFile(path, simulated=True, form=form_of("out.csv", excel_safe=True)) as file:
        file.add_columns(["own"])
        file.append([of("=a", {"own": text}, output=text)])
        (row,) = records(path)
        assert (row["output"], row["own"]) == (cell, cell)
        assert list(file.ids()) == ["=a"], "an id is never changed"
    with pytest.raises(InputError, match="--excel-safe needs a table"):
        form_of("out.jsonl", excel_safe=True)


@pytest.mark.parametrize("form", ["out.csv", "out.tsv", "out.jsonl", "batch.jsonl"])
def test_results_are_valid_unicode_and_say_what_was_replaced(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    bad = of("a", {"k": "m \udcff", "n": [{"x": "\ud83d"}]}, output="half \ud83d pair", error="\udc00")
    whole = of("b", {}, output="\ud83d\ude00 two halves")
    how = form_of(form, "openai-batch" if form.startswith("batch") else None)
    with ResultsFile(path, simulated=True, form=how) as file:
        file.append([bad, whole, of("c", {}, output="fine")])
        assert list(file.ids()) == ["a", "b", "c"]
    text = path.read_bytes().decode("utf-8", "strict")
    assert "half \ufffd pair" in text and "😀 two halves" in text and "\\ud83d" not in text
    assert text.count("replaced by U+FFFD") == 2


def test_a_file_cut_off_anywhere_keeps_its_whole_records_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    answer = 'He said: "no",\r\n\nthen\n"'
    with ResultsFile(path, simulated=True) as file:
        file.add_columns(["na\nme"])
        file.append([of("a", {"na\nme": "x"}, output=answer)])
        one = path.stat().st_size
        file.append([of("b", {"na\nme": "y"}, output=answer)])
    whole = path.read_bytes()
    header = whole.index(b"metadata\r\n") + len(b"metadata\r\n")
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        there = ["a"] * (length >= one)
        with ResultsFile(path, simulated=True) as file:
            assert list(file.ids()) == there, length
            assert path.stat().st_size == (one if there else header if length >= header else 0)
            file.add_columns(["na\nme"])
            missing = [each for each in ("a", "b") if each not in there]
            file.append([of(each, {"na\nme": "xy"[each == "b"]}, output=answer) for each in missing])
        assert path.read_bytes() == whole, length


def test_a_resumed_file_keeps_its_header(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with ResultsFile(path, simulated=True) as file:
        file.add_columns(["name"])
        file.append([of("a", {"name": "Ann"})])
    with ResultsFile(path, simulated=True) as file:
        file.add_columns(["town"])
        file.append([of("b", {"name": "Bo", "town": "Rome"})])
    assert [(row["name"], row["metadata"]) for row in records(path)] == [
        ("Ann", ""),
        ("Bo", '{"town":"Rome"}'),
    ]


def test_a_file_that_a_spreadsheet_saved_again_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with ResultsFile(path, simulated=True) as file:
        file.append([result("a"), result("b", status=TaskStatus.FAILED)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with ResultsFile(path, simulated=True) as file:
        assert [(row["id"], row["status"], row["simulated"]) for row in file.rows()] == [
            ("a", "succeeded", True),
            ("b", "failed", True),
        ]
    assert holds_simulated(path) is True


@pytest.mark.parametrize("content", ["id,name\n1,Ann\n", "id;line;status;output\n", "x"])
def test_a_table_of_something_else_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(InputError, match="does not hold results; choose another output"):
        ResultsFile(path, simulated=True)
    assert path.read_text() == content


def test_nothing_to_append_writes_no_header(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "out.csv", simulated=True) as file:
        file.append([])
    assert (tmp_path / "out.csv").read_bytes() == b""
    assert holds_simulated(tmp_path / "out.csv") is None


def test_the_pieces_of_a_file_are_all_of_it(tmp_path: Path) -> None:
    for name in ("out.csv", "out.jsonl"):
        with ResultsFile(tmp_path / name, simulated=True) as file:
            file.append([result("a", output="x\ny"), result("b")])
        pieces = list(form_of(name).pieces(tmp_path / name))
        assert b"".join(piece for piece, _ in pieces) == (tmp_path / name).read_bytes()
        assert [row["id"] for _, row in pieces if row is not None] == ["a", "b"]


def test_standard_output_is_json_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with ResultsFile("-", simulated=True) as file:
        file.add_columns(["name"])
        file.append([result("a")])
    assert io.BytesIO(capfdbinary.readouterr().out).readline().startswith(b'{"id":"a"')
