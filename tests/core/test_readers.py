"""pandas and DuckDB read every form of results, and find in it what was answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.core.intake import OwnColumns
from src.core.results import ResultsFile, TableColumns, form_of, pack, rows_path

from .test_csv_results import of

pd = pytest.importorskip("pandas")
duckdb = pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")

SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}}
ANSWERS = [
    '{"mood": "good"}', "=1+1", '"quoted", and\r\nmore;\n', "- a list\n- of two", " edges ", "007",
    "Grüße 🌍", "a\tb", "{'x': 1}", "x" * 100_000,
]  # fmt: skip
OWN = OwnColumns(("name", "sku"), {"sku": "id"})
NAMES = ["out.csv", "all.csv", "out.tsv", "out.parquet", "out.jsonl", "batch.jsonl"]
Cells = dict[str, list[Any]]


def by_pandas(path: Path) -> Cells:
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
    elif path.suffix == ".jsonl":
        frame = pd.read_json(path, lines=True, dtype=False)
    else:
        text = {"output": str, "name": str}
        frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=text)
    return {name: frame[name].tolist() for name in frame}


def by_duckdb(path: Path) -> Cells:
    how = {
        ".parquet": f"read_parquet('{path}')",
        ".jsonl": f"read_json('{path}')",
        ".csv": f"read_csv('{path}', header = true, all_varchar = true)",
        ".tsv": f"read_csv('{path}', header = true, all_varchar = true, delim = '\t')",
    }
    found = duckdb.sql(f"SELECT * FROM {how[path.suffix]}")  # noqa: S608 - a path of this test
    return dict(zip(found.columns, map(list, zip(*found.fetchall(), strict=True)), strict=True))


@pytest.mark.parametrize("read", [by_pandas, by_duckdb])
@pytest.mark.parametrize("name", NAMES)
def test_a_reader_finds_the_answers(tmp_path: Path, name: str, read: Callable[[Path], Cells]) -> None:
    path, is_table = tmp_path / name, not name.endswith("jsonl")
    columns = TableColumns(OWN, ("mood",), all=name == "all.csv") if is_table else TableColumns()
    rows = rows_path(str(path))
    form = form_of(str(rows), "openai-batch" if name == "batch.jsonl" else None, columns=columns)
    with ResultsFile(rows, simulated=False, form=form) as file:
        file.append(
            of(f"t{n}", {"name": text[:50], "sku": f"t{n}"}, SCHEMA, output=text)
            for n, text in enumerate(ANSWERS)
        )
    if rows != path:
        pack(str(path), OWN)
    cells, ids = read(path), [f"t{n}" for n in range(len(ANSWERS))]
    if name == "batch.jsonl":
        assert cells["custom_id"] == ids
        found = [each["body"]["choices"][0]["message"]["content"] for each in cells["response"]]
    else:
        found = cells["output"]
        assert cells["sku" if is_table else "id"] == ids
        assert set(map(float, cells["cost_usd"])) == {0.0015}
        assert set(cells["status"]) == {"succeeded"}
    assert found == ANSWERS
    if is_table:
        assert list(cells)[:4] == ["name", "sku", "output", "output.mood"]
        assert cells["name"] == [text[:50] for text in ANSWERS] and cells["output.mood"][0] == "good"
