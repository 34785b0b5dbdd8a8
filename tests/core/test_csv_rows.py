"""CSV files of tasks: columns, cells, quoting, and prompts filled from a template."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from src.config import load_settings
from src.core.intake import (
    MAX_LINE_BYTES,
    BadLine,
    ReadOptions,
    RowDefaults,
    TaskContext,
    Template,
    columns_of,
    read_tasks,
)
from src.errors import InputError
from src.messages import Message
from src.records import Task
from src.settings import Settings

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(environ={})


def read(data: bytes | str, settings: Settings, template: str = "", **options: Any) -> list[Task | BadLine]:
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    how = ReadOptions("csv", Template.of(template, "t.txt") if template else None, **options)
    return list(read_tasks(stream, TaskContext("b", settings, NOW), options=how))


def prompts(items: list[Task | BadLine]) -> list[str]:
    return [item.messages[-1].content for item in items if isinstance(item, Task)]


def test_a_row_becomes_a_task_with_every_field(settings: Settings) -> None:
    (task,) = read(
        "id,prompt,system,task_type,tier,max_tokens,temperature,top_p,seed,stop,deadline,priority,models,"
        "providers,choices,metadata,name\r\n"
        '7 ,"Hi, you",Be brief.,research,premium,50,0.5,0.9,7,"a,b",1m,-3,"gpt-4, gpt-4o-mini",openai,'
        '"yes, no",'
        '"{""k"": 1}",Ann\r\n',
        settings,
    )
    assert task == Task(
        id="7",
        batch="b",
        messages=(Message("system", "Be brief."), Message("user", "Hi, you")),
        task_type="research",
        tier="premium",
        max_tokens=50,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=("a,b",),
        models=("gpt-4", "gpt-4o-mini"),
        providers=("openai",),
        deadline_at=NOW + 60,
        priority=-3,
        metadata={"k": 1, "name": "Ann"},
        line=2,
        created_at=NOW,
        response_schema={
            "type": "object",
            "properties": {"choice": {"type": "string", "enum": ["yes", "no"]}},
            "required": ["choice"],
        },
    )


def test_an_empty_cell_leaves_its_field_unset(settings: Settings) -> None:
    (task,) = read("id,prompt,max_tokens,tier\n,Hi,,\n", settings)
    assert isinstance(task, Task) and (task.max_tokens, task.tier) == (None, "standard") and task.id


def test_a_whole_number_may_have_a_decimal_point_and_zeros(settings: Settings) -> None:
    (task,) = read("prompt,max_tokens\nHi,512.0\n", settings)
    assert isinstance(task, Task) and task.max_tokens == 512


def test_conversations_and_lists_may_be_json(settings: Settings) -> None:
    (task,) = read(
        'messages;stop\n"[{""role"": ""user"", ""content"": ""Hi""}]";"[""x"", ""y""]"\n', settings
    )
    assert isinstance(task, Task) and task.stop == ("x", "y") and prompts([task]) == ["Hi"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["", "BOM"])
def test_a_file_from_a_spreadsheet_is_read_unchanged(
    settings: Settings, delimiter: str, end: str, bom: str
) -> None:
    texts = ["plain", "two\nlines", 'say "no"', "a,b;c\td|e", "", "Grüße 🌍", " edges "]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerows([["id", "prompt", "note, etc."], *([n, prompt, "x"] for n, prompt in enumerate(texts))])
    items = read(bom + text.getvalue(), settings)
    assert prompts(items) == [prompt for prompt in texts if prompt]
    (bad,) = (item for item in items if isinstance(item, BadLine))
    assert bad.reason == "'prompt' is empty"
    first = items[0]
    assert isinstance(first, Task) and first.metadata == {"note, etc.": "x"}
    assert [item.line for item in items] == [2, 3, 5, 6, 7, 8, 9]


def test_a_line_that_names_the_delimiter_sets_it(settings: Settings) -> None:
    assert prompts(read("sep=;\nid;prompt\n1;a, b\n", settings)) == ["a, b"]


def test_one_column_needs_no_delimiter(settings: Settings) -> None:
    assert prompts(read("prompt\nWhat?\n\n\nWhy?", settings)) == ["What?", "Why?"]


def test_blank_records_are_skipped_and_columns_without_a_name_get_a_number(
    settings: Settings,
) -> None:
    items = read(",prompt,label\n0,Hi,a\n\n1,Ho,b\n", settings)
    assert [item.metadata for item in items if isinstance(item, Task)] == [
        {"column_1": "0", "label": "a"},
        {"column_1": "1", "label": "b"},
    ]


BAD_ROWS = {
    "too few cells": ("1,Hi", "2 cells for 3 columns"),
    "too many cells": ("1,Hi,there,5", "4 cells for 3 columns"),
    "no whole number": ("1,Hi,many", "'max_tokens' must be a whole number, not 'many'"),
    "half a token": ("1,Hi,1.5", "'max_tokens' must be a whole number, not '1.5'"),
    "endless digits": ("1,Hi," + "1" * 5000, "'max_tokens' must be a whole number, not '1111"),
    "no token": ("1,Hi,0", "'max_tokens' must be at least 1, not 0"),
    "empty prompt": ("1,,5", "'prompt' is empty"),
    "text behind a quote": ('1,"Hi" there,5', "expected ',' or the end of the line after a closing quote"),
    "over two lines": ('1,"Hi\nyou" there,5', "to line 4: expected ','"),
    "carriage return": ("1,Hi\ryou,5", "a carriage return outside quotes"),
    "bytes": (b"1,H\xff,5", "not UTF-8 at byte 4; save the file as UTF-8"),
    "bytes in a cell of two lines": (b'1,"H\xff\nprompt,",5', "not UTF-8 at byte 5; save the file as UTF-8"),
}


def test_a_comma_in_a_table_of_one_column_is_told(settings: Settings) -> None:
    bad, good = read(b"prompt\nHi, you\nx\n", settings)
    assert isinstance(bad, BadLine) and bad.reason.startswith("2 cells for 1 column; put a cell that")
    assert prompts([good]) == ["x"]


@pytest.mark.parametrize(("line", "reason"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_says_where_and_why_and_the_others_are_read(
    settings: Settings, line: bytes | str, reason: str
) -> None:
    middle = line if isinstance(line, bytes) else line.encode()
    items = read(b"id,prompt,max_tokens\n0,a,\n" + middle + b"\n9,z,\n", settings)
    assert prompts(items) == ["a", "z"]
    (bad,) = (item for item in items if isinstance(item, BadLine))
    assert bad.line == 3 and reason in bad.reason
    assert bad.text == middle.decode(errors="backslashreplace"), "unchanged, so that it can be corrected"


CELLS = {
    "top_p": ("most", "'top_p' must be a number such as 0.5, not 'most'"),
    "seed": ("1.5", "'seed' must be a whole number, not '1.5'"),
    "temperature": ("warm", "'temperature' must be a number such as 0.5, not 'warm'"),
    "deadline": ("nan", "'deadline' must be above 0 and finite, not nan"),
    "metadata": ("{", "'metadata': not JSON: "),
    "stop": ('[{"a": 1, "a": 2}]', "'stop': duplicate key 'a'"),
    "messages": ('"hi"', "'messages' must be a list, not text"),
    "response_schema": ("[1]", "'response_schema' must be an object, not a list"),
    "providers": ("openai, mistral", "'providers': unknown provider 'mistral'; known: anthropic, openai"),
    "models": ("mistral-9", "'models': no provider serves 'mistral-9'"),
    "tier": ("gold", "'tier' must be one of 'auto', 'economy', 'standard' or 'premium', not 'gold'"),
}


@pytest.mark.parametrize(("key", "cell", "reason"), [(key, *each) for key, each in CELLS.items()], ids=CELLS)
def test_a_cell_that_does_not_fit_its_column_is_reported(
    settings: Settings, key: str, cell: str, reason: str
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", key], ["" if key == "messages" else "Hi", cell]])
    (bad,) = read(text.getvalue(), settings)
    assert isinstance(bad, BadLine) and reason in bad.reason


HEADERS = {
    "no prompt": (
        "id,question",
        "no column 'prompt' among 'id', 'question'; put columns into a prompt (--prompt or --prompt-file)",
    ),
    "another spelling": ("id,Prompt", "no column 'prompt' among 'id', 'Prompt'; rename 'Prompt'"),
    "a slip": ("prompt,temprature", "unknown column 'temprature'; did you mean 'temperature'? Rename it"),
    "spaces": ("prompt,Max Tokens", "unknown column 'Max Tokens'; did you mean 'max_tokens'?"),
    "twice": ("prompt,a,b,a", "columns 2 and 4 are both named 'a'; rename one of them"),
    "quoting": ('prompt,"a"b', "the header: expected ','"),
    "never closed": ('prompt,"a', "a quoted cell begins here and is never closed; add the closing quote"),
}


@pytest.mark.parametrize(("header", "reason"), HEADERS.values(), ids=HEADERS.keys())
def test_an_invalid_header_is_reported_before_a_row_is_read(
    settings: Settings, header: str, reason: str
) -> None:
    with pytest.raises(InputError) as raised:
        read(f"{header}\n1,2\n", settings)
    assert reason in str(raised.value) and raised.value.line == 1


def test_a_quote_that_is_never_closed_is_an_error_and_loses_no_rows_silently(settings: Settings) -> None:
    with pytest.raises(InputError, match="line 3: a quoted cell begins here and is never closed"):
        read('prompt\nfine\n"not\nfine\nat all\n', settings)
    with pytest.raises(InputError, match="line 2: a quoted cell begins here"):
        read(
            b'prompt\n"' + b"x" * 999 + b"\n" + (b"y" * 999 + b"\n") * (MAX_LINE_BYTES // 1000 + 1), settings
        )


@pytest.mark.parametrize("name", ["model", "message", "choice", "provider"])
def test_a_column_that_may_be_meant_as_data_is_metadata_with_one_warning(
    settings: Settings, name: str
) -> None:
    warnings: list[str] = []
    stream = io.BytesIO(f"prompt,{name}\nHi,x\nHo,y\n".encode())
    how = ReadOptions("csv")
    items = list(read_tasks(stream, TaskContext("b", settings, NOW), options=how, on_warning=warnings.append))
    assert [item.metadata for item in items if isinstance(item, Task)] == [{name: "x"}, {name: "y"}]
    assert len(warnings) == 1 and f"column '{name}' is copied to the results as data" in warnings[0]


def test_the_header_alone_decides_which_columns_return_with_the_results(tmp_path: Path) -> None:
    table = b"name,prompt,id,city\nAnn,Hi,1,Rome\n"
    own = columns_of(io.BytesIO(table), ReadOptions("csv"))
    assert own.names == ("name", "prompt", "id", "city") and own.ids == "id"
    (tmp_path / "t.csv").write_bytes(table)
    template = ReadOptions(template=Template.of("{prompt}"))
    own = columns_of(tmp_path / "t.csv", template)
    assert (own.names, own.fields) == (("name", "prompt", "id", "city"), {"id": "id"})
    own = columns_of(io.BytesIO(b"name,tier,prompt\n"), ReadOptions("csv"))
    assert (own.names, own.ids) == (("name", "prompt"), None), "the tier is not data"
    how = ReadOptions("csv", Template.of("{id}"), id_column="sku")
    own = columns_of(io.BytesIO(b"id,sku\n1,a\n"), how)
    assert (own.names, own.ids) == (("id", "sku"), "sku")
    assert columns_of(io.BytesIO(b'{"prompt": "Hi"}')).names == ("prompt", "metadata")
    assert columns_of(io.BytesIO(b"Hi\n")).names == ("prompt",)


# ------------------------------------------------------------------ templates


def test_a_template_is_filled_from_the_columns_which_are_copied_to_the_results(settings: Settings) -> None:
    items = read(
        "id,prompt,review\n1,Lamp,good\n2,Desk,\n", settings, 'As {{"json"}}: {review} of {prompt}. {review}'
    )
    assert prompts(items) == ['As {"json"}: good of Lamp. good', 'As {"json"}:  of Desk. ']
    assert [item.metadata for item in items if isinstance(item, Task)] == [
        {"prompt": "Lamp", "review": "good"},
        {"prompt": "Desk", "review": ""},
    ]


def test_braces_and_percent_signs_in_a_cell_stay_as_they_are(settings: Settings) -> None:
    assert prompts(read('a\n"{b} {{c}} %s \\1"\n', settings, "<{a}>")) == ["<{b} {{c}} %s \\1>"]


def test_a_column_that_the_template_uses_needs_no_other_name(settings: Settings) -> None:
    assert prompts(read("Max Tokens,model\n5,T\n", settings, "{Max Tokens} {model}")) == ["5 T"]


def test_a_row_with_empty_template_columns_is_a_bad_line(settings: Settings) -> None:
    (bad,) = read('a,b,c\n," ",x\n', settings, "{a}{b}")
    assert isinstance(bad, BadLine) and bad.reason == "empty prompt: no value in 'a', 'b'"


BAD_TEMPLATES = {
    "unknown column": ("one\n{revew}", "t.txt, line 2: no column 'revew'; did you mean 'review'?"),
    "JSON": ('{"a": 1} {review}', "t.txt, line 1: no column '\"a\": 1'; known: id, review"),
    "no column": ("Hello", "t.txt: no {column} in it, so every row would send the same prompt"),
    "only braces": ("{{review}}", "no {column} in it"),
    "open": ("{review} {", "t.txt, line 1: unmatched '{'; write {column}, or {{ for a literal brace"),
    "closed": ("{review}\n}", "t.txt, line 2: unmatched '}'"),
}


@pytest.mark.parametrize(("text", "reason"), BAD_TEMPLATES.values(), ids=BAD_TEMPLATES.keys())
def test_an_invalid_template_is_reported_before_a_row_is_read(
    settings: Settings, text: str, reason: str
) -> None:
    with pytest.raises(InputError) as raised:
        read("id,review\n1,good\n", settings, text)
    assert reason in str(raised.value)


def test_a_template_is_read_from_a_file_without_its_last_line_end(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(b"\xef\xbb\xbfTell:\r\n{a}\r\n")
    assert Template.read(path).fill({"a": "x"}) == "Tell:\nx"
    path.write_bytes(b"{a} \xff")
    with pytest.raises(InputError, match=r"prompt\.txt: not UTF-8 at byte 5"):
        Template.read(path)
    with pytest.raises(InputError, match=r"absent\.txt: no such file"):
        Template.read(tmp_path / "absent.txt")


@pytest.mark.parametrize("fmt", ["text", "openai-batch"])
def test_only_tables_and_objects_fill_a_template(settings: Settings, fmt: str) -> None:
    how = ReadOptions(fmt, Template.of("{a}"))
    with pytest.raises(InputError, match=f"a template needs a table or JSON Lines, but this is {fmt}"):
        list(read_tasks(io.BytesIO(b"{}"), TaskContext("b", settings, NOW), options=how))


def read_objects(settings: Settings, rows: list[dict[str, Any]], template: str, **options: Any) -> Any:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    how = ReadOptions(template=Template.of(template), **options)
    return list(read_tasks(io.BytesIO(lines), TaskContext("b", settings, NOW), options=how))


def test_json_lines_fill_a_template_as_the_rows_of_a_table_do(settings: Settings) -> None:
    rows = [{"id": "1", "a": "x", "n": 5, "tags": ["p"], "task.priority": 7, "tier": "gold"}]
    (task,) = read_objects(settings, rows, "{a} {n} {tags}")
    assert (task.id, task.messages[0].content, task.priority) == ("1", 'x 5 ["p"]', 7)
    assert task.metadata == {"a": "x", "n": 5, "tags": ["p"], "tier": "gold"}
    (named,) = read_objects(settings, [{"sku": 9, "id": "1", "a": "x"}], "{a}", id_column="sku")
    assert (named.id, named.metadata) == ("9", {"sku": 9, "id": "1", "a": "x"})


def test_an_id_made_of_values_is_the_same_in_a_table_and_in_json_lines(settings: Settings) -> None:
    objects = read_objects(settings, [{"a": "1", "b": 2}, {"a": "3"}], "{a}")
    assert ids(objects) == ids(read("a,b\n1,2\n3,4\n", settings, "{a}"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "no 'txt' for the template; did you mean 'text'?"),
        ({"txt": None}, "empty prompt: no value in 'txt'"),
        ({"txt": "x", "task.priorty": 1}, "unknown key 'task.priorty'; did you mean 'task.priority'?"),
        ({"txt": "x", "task.priority": "high"}, "'priority' must be a whole number"),
    ],
    ids=["missing key", "empty", "misspelt field", "wrong kind"],
)
def test_an_object_that_does_not_fit_a_template_is_a_bad_line(
    settings: Settings, row: dict[str, Any], reason: str
) -> None:
    bad, good = read_objects(settings, [row, {"txt": "y"}], "{txt}")
    assert isinstance(bad, BadLine) and reason in bad.reason
    assert isinstance(good, Task)


# ------------------------------------------------------------------ identity, pins, limit, memory


def ids(items: list[Task | BadLine]) -> list[str]:
    return [item.id for item in items if isinstance(item, Task)]


def test_with_a_template_an_id_depends_only_on_the_values_that_the_row_fills_in(settings: Settings) -> None:
    first = ids(read("a,b\n1,2\n1,2\n3,4\n", settings, "{a}"))
    assert len(set(first)) == 3
    assert first == ids(read("b;x;a\n9;y;1\n8;z;1\n7;;3\n", settings, "{a}"))
    assert first == ids(read("A\n1\n1\n3\n", settings, "Other words, other name: {A}"))
    assert first == ids(
        read("a,b\n1,2\n1,2\n3,4\n", settings, "{a}", defaults=RowDefaults(models=("gpt-4",)))
    )
    assert first == ids(read("a\n1\n1\n3\n", settings, "{a}", defaults=RowDefaults(choices=("x",))))
    assert first == ids(read("a,task.priority\n1,5\n1,6\n3,7\n", settings, "{a}"))
    assert not {*first} & {*ids(read("a,b\n1,2\n3,4\n", settings, "{a} {b}"))}
    assert not {*first} & {*ids(read("a,task.max_tokens\n1,5\n3,5\n", settings, "{a}"))}


def test_without_a_template_an_id_does_not_depend_on_what_is_not_sent(settings: Settings) -> None:
    first = ids(read("prompt\nHi\nHi\nHo\n", settings))
    assert first == ids(read("note,prompt,priority,metadata\nx,Hi,1,{}\ny,Hi,2,\nz,Ho,3,\n", settings))
    assert not {*first} & {*ids(read("prompt,system\nHi,Be brief.\nHo,Be brief.\n", settings))}


def test_a_batch_with_the_first_id_scheme_keeps_it(settings: Settings) -> None:
    first = ids(read("a,b\n1,2\n1,2\n3,4\n", settings, "{a}", ids=1))
    assert first[0] == "d6b5186923cdc7c51ad2", "as an earlier version made it"
    assert first == ids(read("b;a\n2;1\n2;1\n4;3\n", settings, "Other: {a} {b}", ids=1))


SHADOWING = "id,system,stop,choices,tier,priority,task_type,metadata,max_tokens,models,name"


def test_with_a_template_columns_are_data(settings: Settings) -> None:
    text = f"{SHADOWING}\n7,Windows,bus,many,gold,High,bug,none,lots,T,Ann\n"
    warnings: list[str] = []
    how = ReadOptions("csv", Template.of("{system} {priority} {name}"))
    stream = io.BytesIO(text.encode())
    (task,) = read_tasks(stream, TaskContext("b", settings, NOW), options=how, on_warning=warnings.append)
    assert isinstance(task, Task)
    assert task.messages == (Message("user", "Windows High Ann"),)
    assert (task.id, task.stop, task.tier, task.priority, task.task_type) == (
        "7",
        (),
        "standard",
        0,
        "general",
    )
    assert task.max_tokens is None and task.response_schema is None and task.models == ()
    cells = dict(zip(SHADOWING.split(","), text.splitlines()[1].split(","), strict=True))
    assert task.metadata == {key: cell for key, cell in cells.items() if key != "id"}
    (warning,) = warnings
    assert "columns 'system', 'stop'" in warning and "rename it 'task.system', 'task.stop'" in warning
    assert columns_of(io.BytesIO(text.encode()), how).names == tuple(SHADOWING.split(","))


def test_with_a_template_fields_have_a_prefix(settings: Settings) -> None:
    (task,) = read(
        "id,system,task.id,task.system,task.priority,task.stop,task.choices,task.metadata\n"
        '1,data,7,Be brief.,5,".","yes,no","{""k"": 1}"\n2,more,,,,,,\n',
        settings,
        "About {system}",
    )[:1]
    assert isinstance(task, Task)
    assert task.messages == (Message("system", "Be brief."), Message("user", "About data"))
    assert (task.id, task.priority, task.stop) == ("7", 5, (".",))
    assert task.metadata == {"k": 1, "id": "1", "system": "data"} and task.response_schema is not None


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("task.sytem", "unknown column 'task.sytem'; did you mean 'task.system'? Rename it"),
        ("task.Max Tokens", "did you mean 'task.max_tokens'?"),
        ("task.prompt", "column 'task.prompt': the template makes the prompt"),
    ],
)
def test_a_misspelt_prefixed_field_is_reported(settings: Settings, column: str, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        read(f"a,{column}\n1,2\n", settings, "{a}")
    assert reason in str(raised.value)
    (task,) = (
        read(f"a,{column}\n1,2\n", settings, f"{{a}} {{{column}}}") if "prompt" not in column else (None,)
    )
    assert task is None or prompts([task]) == ["1 2"]


@pytest.mark.parametrize("column", ["Priority", "temprature", "task.name", "Max Tokens", "task"])
def test_with_a_template_other_columns_may_have_any_name(settings: Settings, column: str) -> None:
    (task,) = read(f"a,{column}\n1,2\n", settings, "{a}")
    assert isinstance(task, Task) and task.metadata == {"a": "1", column: "2"}


def test_a_limit_counts_tasks_and_reads_no_further(settings: Settings) -> None:
    items = read('prompt,max_tokens\na,x\nb,1\nc,1\n"never closed', settings, limit=2)
    assert prompts(items) == ["b", "c"] and len(items) == 3


PINS = {
    "none": ((), "", "", ((), ())),
    "only": (("openai", "gemini"), "", "", ((), ("openai", "gemini"))),
    "only some of its own": (("openai", "gemini"), "", "gemini,anthropic", ((), ("gemini",))),
    "none of its own": (
        ("openai", "gemini"),
        "",
        "anthropic",
        "'providers': anthropic excluded by --only openai,gemini",
    ),
    "its model elsewhere": (
        ("openai",),
        "claude-3-5-haiku",
        "",
        "'models': openai does not serve 'claude-3-5-haiku'",
    ),
    "its model elsewhere by itself": (
        (),
        "claude-3-5-haiku",
        "openai",
        "'models': openai does not serve 'claude-3-5-haiku'",
    ),
}


@pytest.mark.parametrize(("only", "models", "providers", "expected"), PINS.values(), ids=PINS.keys())
def test_only_restricts_the_row(
    settings: Settings, only: tuple[str, ...], models: str, providers: str, expected: Any
) -> None:
    (item,) = read(f'prompt,models,providers\nHi,"{models}","{providers}"\n', settings, only=only)
    found = item.reason if isinstance(item, BadLine) else (item.models, item.providers)
    assert found == expected


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"only": ("opena",)}, "--only: unknown provider 'opena'; did you mean 'openai'"),
        ({"defaults": RowDefaults(models=("mistral-9",))}, "--model: unknown model 'mistral-9'"),
        (
            {"defaults": RowDefaults(models=("gpt-4",)), "only": ("gemini",)},
            "--model: gemini does not serve 'gpt-4'",
        ),
        ({"defaults": RowDefaults(max_tokens=0)}, "--max-tokens must be at least 1, not 0"),
        ({"id_column": "sk"}, "--id-column: no column 'sk'; did you mean 'sku'?"),
    ],
    ids=["provider", "model", "model of another provider", "max tokens", "id column"],
)
def test_a_wrong_option_is_reported_before_a_row_is_read(
    settings: Settings, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError) as raised:
        read("prompt,sku\nHi,1\n", settings, **options)
    assert reason in str(raised.value)


def test_memory_does_not_grow_with_the_text_of_the_cells(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", "note"])
        writer.writerows([n, f"{n} " + "word\n" * 500, "note " * 500] for n in range(600))
    tracemalloc.start()
    count = sum(1 for _ in read_tasks(path, TaskContext("b", settings, NOW)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 600
    assert peak < 2_000_000 < path.stat().st_size
