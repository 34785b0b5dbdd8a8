"""Results as CSV: the cells, and files that are cut off, resumed or of something else."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from src.answer_choices import choice_schema
from src.core.intake import OwnColumns, of_objects
from src.core.results import ResultsFile, TableColumns, form_of, holds_simulated
from src.core.results.csv_table import CsvForm
from src.errors import InputError
from src.messages import Message
from src.records import Result, Task, TaskStatus

from .test_results import attempt, result

ANSWER = ["output", "status", "model", "cost_usd", "error"]
EARLIER = (
    "id,line,status,output,finish_reason,truncated,error,warnings,provider,model,agent,task_type,tier,"
    "cost_usd,latency_s,simulated,deduplicated_from,input_tokens,cache_read_tokens,cache_write_tokens,"
    "output_tokens,reasoning_tokens,attempts"
)
SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}, "score": {}}}


def of(task_id: str, metadata: dict[str, Any], schema: Any = None, **changes: Any) -> Result:
    turns = (Message("system", "Be brief."), Message("user", "Hi"))
    task = Task(task_id, "b", turns, metadata=metadata, line=3, response_schema=schema)
    return result(task_id, **{"task": task, **changes})


def table(
    path: Path, *names: str, ids: str | None = None, simulated: bool = True, **more: Any
) -> ResultsFile:
    """A table for an input with these columns, of which `ids` has the ids."""
    own = OwnColumns(names, {} if ids is None else {ids: "id"})
    columns = TableColumns(own, **more)
    return ResultsFile(path, simulated=simulated, form=form_of(str(path), columns=columns))


def header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def records(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


def test_ones_own_columns_come_first_and_the_answer_after_them(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with table(path, "name", "key", "town", ids="key", simulated=False) as file:
        file.append([of("a", {"name": "Ann", "key": "a", "town": "Rome"})])
        file.append([of("b", {"name": "Bo"}, output=None, error="no answer", status=TaskStatus.FAILED)])
    first, second = records(path)
    assert list(first) == ["name", "key", "town", *ANSWER]
    assert list(first.values()) == ["Ann", "a", "Rome", "Hello", "succeeded", "gpt-6-luna", "0.0015", ""]
    assert (second["key"], second["output"], second["error"]) == ("b", "", "no answer")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_table_without_a_column_of_ids_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with table(path, "name") as file:
        file.append([of("a", {"name": "Ann"})])
    assert header(path) == ["id", "name", *ANSWER, "simulated"], "simulated rows are marked"
    assert [row["simulated"] for row in records(path)] == ["true"]


@pytest.mark.parametrize(
    ("nanos", "written"),
    [(0, "0.0"), (1, "0.000000001"), (8_000, "0.000008"), (12_345_678_901, "12.345678901")],
)
def test_dollars_are_written_without_an_exponent(tmp_path: Path, nanos: int, written: str) -> None:
    path = tmp_path / "out.csv"
    with table(path) as file:
        file.append([of("a", {}, attempts=(attempt(1, cost_nanos=nanos),))])
    (row,) = records(path)
    assert (row["cost_usd"], float(row["cost_usd"])) == (written, nanos / 1e9)


def test_all_columns_are_those_of_the_row(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with table(path, "name", all=True, simulated=False) as file:
        file.append([of("a", {"name": "Ann", "other": [1]}, warnings=("one", "two"))])
    (row,) = records(path)
    assert list(row) == [
        "id", "name", *ANSWER, "tool_calls",
        "line", "finish_reason", "truncated", "warnings", "provider", "agent",
        "task_type", "tier", "latency_s", "input_tokens", "cache_read_tokens", "cache_write_tokens",
        "output_tokens", "reasoning_tokens", "attempts", "deduplicated_from", "metadata", "simulated",
    ]  # fmt: skip
    assert (row["line"], row["warnings"], row["simulated"]) == ("3", "one; two", "false")
    assert row["metadata"] == '{"other":[1]}'


def test_a_column_of_ours_that_the_input_has_as_well_gets_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    own = ("id", *ANSWER, "llm_model", "output.mood", "simulated")
    for number in range(2):  # the second time the file is resumed
        with table(path, *own, ids="id", fields=("mood",)) as file:
            cells = {name: f"mine {name}" for name in own if name != "id"}
            file.append([of(str(number), cells, SCHEMA, output='{"mood": "good"}')])
            assert [row["simulated"] for row in file.rows()] == [True] * (number + 1)
    for number, row in enumerate(records(path)):
        assert row["id"] == str(number) and all(row[name] == f"mine {name}" for name in own[1:])
        assert row["llm_output"] == '{"mood": "good"}' and row["llm_output.mood"] == "good"
        assert row["llm_llm_model"] == "gpt-6-luna" and row["llm_status"] == "succeeded"
    with table(tmp_path / "again.csv", *header(path), ids="id") as file:  # results as the input
        file.append([of("0", {})])
        assert list(file.ids()) == ["0"]
    assert header(tmp_path / "again.csv")[-1] == "llm_llm_simulated"


def test_one_of_several_labels_is_the_bare_label(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    schema = choice_schema(["yes", "no"])
    outputs = ['{"choice": "yes"}', '{"choice": ', None, "no"]
    with table(path) as file:
        file.append(of(str(n), {}, schema, output=output) for n, output in enumerate(outputs))
        file.append([of("free", {}, output='{"choice": "yes"}')])
    assert [row["output"] for row in records(path)] == ["yes", '{"choice": ', "", "no", '{"choice": "yes"}']


def test_the_fields_of_a_schema_become_columns(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    answers = ['{"mood": "good", "score": 0.5}', '{"mood": null, "score": [true]}', '{"mood": ', "[1]", None]
    with table(path, fields=("mood", "score")) as file:
        file.append(of(str(n), {}, SCHEMA, output=answer) for n, answer in enumerate(answers))
    assert header(path)[:5] == ["id", "output", "output.mood", "output.score", "status"]
    found = [(row["output.mood"], row["output.score"]) for row in records(path)]
    assert found == [("good", "0.5"), ("", "[true]"), ("", ""), ("", ""), ("", "")]
    assert [row["output"] for row in records(path)] == [answer or "" for answer in answers]


def test_objects_return_with_prompt_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "out.tsv"
    columns = TableColumns(of_objects("prompt", "metadata"), all=True)
    with ResultsFile(path, simulated=True, form=form_of("out.tsv", columns=columns)) as file:
        file.append([of("a", {"k": 1, "name": "Ann"})])
    (row,) = records(path, "\t")
    assert list(row)[:4] == ["id", "prompt", "metadata", "output"] and "llm_metadata" not in row
    assert (row["prompt"], row["metadata"]) == ("Hi", '{"k":1,"name":"Ann"}')


def test_a_table_of_an_earlier_version_keeps_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    whole = (
        f"{EARLIER},name,metadata.output,metadata\r\n"
        "a,2,succeeded,Hello,stop,false,,,openai,m,ag,general,economy,0.1,0.3,true,,1,0,0,2,0,1,Ann,gold,\r\n"
    ).encode()
    path.write_bytes(whole + b"b,3,succ")
    with table(path, "name", "output", "town") as file:
        assert list(file.ids()) == ["a"] and holds_simulated(path) is True
        file.append([of("b", {"name": "Bo", "output": "tin", "town": "Rome"})])
        assert list(file.ids()) == ["a", "b"]
    assert path.read_bytes().startswith(whole)
    row = records(path)[1]
    assert (row["id"], row["output"], row["simulated"]) == ("b", "Hello", "true")
    assert (row["name"], row["metadata.output"], row["metadata"]) == ("Bo", "tin", '{"town":"Rome"}')
    with table(path, "name") as file:
        assert file.drop(["a"]) == 1 and list(file.ids()) == ["b"]


def test_rows_with_line_ends_in_their_cells_are_removed_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with table(path, "name") as file:
        file.append([of(name, {"name": name}, output='one\n"two"\r\n') for name in "abc"])
        assert file.drop(["b"]) == 1
        assert list(file.ids()) == ["a", "c"]
        assert file.drop(["a", "c"]) == 2
        file.append([of("d", {"name": "Di"})])
    (row,) = records(path)
    assert (row["id"], row["name"]) == ("d", "Di")


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
    form = form_of("out.csv", excel_safe=True, columns=TableColumns(OwnColumns(("own",))))
    with ResultsFile(path, simulated=True, form=form) as file:
        file.append([of("=a", {"own": text}, output=text)])
        (row,) = records(path)
        assert (row["output"], row["own"]) == (cell, cell)
        assert list(file.ids()) == ["=a"], "an id is never changed"
    with pytest.raises(InputError, match="--excel-safe needs a table"):
        form_of("out.jsonl", excel_safe=True)
    with pytest.raises(InputError, match="--columns all needs a table"):
        form_of("-", columns=TableColumns(all=True))


@pytest.mark.parametrize("form", ["out.csv", "out.tsv", "out.jsonl", "batch.jsonl"])
def test_results_are_valid_unicode_and_say_what_was_replaced(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    bad = of("a", {"k": "m \udcff", "n": [{"x": "\ud83d"}]}, output="half \ud83d pair", error="\udc00")
    whole = of("b", {}, output="\ud83d\ude00 two halves")
    columns = TableColumns(all=form.startswith("out.") and not form.endswith("jsonl"))
    how = form_of(form, "openai-batch" if form.startswith("batch") else None, columns=columns)
    with ResultsFile(path, simulated=True, form=how) as file:
        file.append([bad, whole, of("c", {}, output="fine")])
        assert list(file.ids()) == ["a", "b", "c"]
    text = path.read_bytes().decode("utf-8", "strict")
    assert "half \ufffd pair" in text and "😀 two halves" in text and "\\ud83d" not in text
    assert text.count("replaced by U+FFFD") == 2


def test_a_file_cut_off_anywhere_keeps_its_whole_records_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    answer = 'He said: "no",\r\n\nthen\n"'
    with table(path, "na\nme") as file:
        file.append([of("a", {"na\nme": "x"}, output=answer)])
        one = path.stat().st_size
        file.append([of("b", {"na\nme": "y"}, output=answer)])
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        there = ["a"] * (length >= one)
        with table(path, "na\nme") as file:
            assert list(file.ids()) == there, length
            assert path.stat().st_size == (one if there else 0), "a header alone is written again"
            missing = [each for each in ("a", "b") if each not in there]
            file.append([of(each, {"na\nme": "xy"[each == "b"]}, output=answer) for each in missing])
        assert path.read_bytes() == whole, length


def test_a_resumed_file_keeps_its_header(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with table(path, "name") as file:
        file.append([of("a", {"name": "Ann"})])
    with table(path, "town", "name", all=True, fields=("mood",)) as file:
        file.append([of("b", {"name": "Bo", "town": "Rome"})])
        assert list(file.ids()) == ["a", "b"]
    assert [(row["id"], row["name"], row["output"]) for row in records(path)] == [
        ("a", "Ann", "Hello"),
        ("b", "Bo", "Hello"),
    ]


def test_a_header_alone_is_replaced_by_that_of_this_run(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with table(path, "name", simulated=False) as file:
        file.append([of("a", {"name": "Ann"})])
        file.drop(["a"])
    assert holds_simulated(path) is None
    with table(path, "name") as file:
        file.append([of("a", {"name": "Ann"})])
    assert holds_simulated(path) is True


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


@pytest.mark.parametrize(
    "content", ["id,name\n1,Ann\n", "id;line;status;output\n", "x", "a,status,model,cost_usd,error\n"]
)
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
        file.append([result("a")])
    assert io.BytesIO(capfdbinary.readouterr().out).readline().startswith(b'{"id":"a"')
