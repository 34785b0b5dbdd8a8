"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import key_trust
from ..core.intake import FORMATS, ReadOptions, RowDefaults, Template, option_of, read_schema
from ..durations import parse_duration
from ..errors import InputError, not_utf_8, unreadable
from ..logging_setup import LEVELS
from ..messages import REASONING_EFFORTS
from ..records import FLEX, STANDARD
from ..settings import TIERS
from ..small_files import read_small
from .session import Options

JSON = "Output JSON."
QUIET = "Print only errors, warnings and totals."
WITHIN = (
    "Answer every row within this time, such as 24h: what may wait goes to the providers' batch APIs, at "
    "half the price."
)
ONLY = "Use only these providers, separated by commas: anthropic,gemini."
PLAIN_FIELDS = (
    "task_type", "agent", "tier", "max_tokens", "temperature", "top_p", "seed", "reasoning_effort",
    "service_tier", "system",
)  # fmt: skip


class NamedPath(click.Path):
    """A path that is not empty: a variable of the shell that is not set must not mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty.", param, ctx)
        return super().convert(value, param, ctx)


FILE = NamedPath(path_type=Path, dir_okay=False)
FOLDER = NamedPath(path_type=Path, file_okay=False)
Command = TypeVar("Command", bound=Callable[..., Any])

EVERYWHERE: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--config",
        {
            "type": FILE,
            "metavar": "FILE",
            "help": "Read settings from FILE, on top of orchestrator.toml (default: ORCHESTRATOR_CONFIG).",
        },
    ),
    ("--simulate", {"is_flag": True, "help": "Use the built-in simulator even if there are keys."}),
    (
        "--simulator-config",
        {
            "type": FILE,
            "metavar": "FILE",
            "help": "Read the simulator's limits and faults from a JSON file; implies --simulate.",
        },
    ),
    (
        "--state-dir",
        {
            "type": FOLDER,
            "metavar": "DIR",
            "help": "Keep databases and logs in DIR (default: ORCHESTRATOR_STATE_DIR, else state).",
        },
    ),
    (
        key_trust.FLAG,
        {
            "is_flag": True,
            "help": "Let .env and the configuration say where keys of the environment are sent; remembered "
            "until one of them changes.",
        },
    ),
    (
        "--log-level",
        {"type": click.Choice(LEVELS), "help": "Log to the terminal from this level on (default: warning)."},
    ),
)


def everywhere(command: Command) -> Command:
    """Add the options of every command. They may stand before or after the command's name."""
    for name, settings in reversed(EVERYWHERE):
        command = click.option(name, expose_value=False, callback=_remember, **settings)(command)
    return command


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    options = context.ensure_object(Options)
    if parameter.name and value not in (None, False):
        setattr(options, parameter.name, value)


def text_or_file(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The text of an option; `@FILE` stands for the content of a file. Raises InputError."""
    if value is None or not value.startswith("@"):
        return value
    path = Path(value[1:])
    try:
        text = read_small(path).decode("utf-8-sig").replace("\r\n", "\n").strip()
    except OSError as error:
        raise InputError(f"--{parameter.name}: {path}: {unreadable(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--{parameter.name}: {path}: {not_utf_8(error)}") from error
    if not text:
        raise InputError(f"--{parameter.name}: {path} is empty")
    return text


def duration_option(text: str, option: str) -> float:
    """The seconds of a duration that `option` was given. Raises InputError."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InputError(f"{option} {error}") from None


ROW_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("--task-type", "--type", "task_type"),
        {
            "metavar": "TYPE",
            "help": "Task type: code_generation, creative_writing, research, analysis, or a row of "
            "[task_types].",
        },
    ),
    (
        ("--agent",),
        {
            "metavar": "NAME",
            "help": "Agent of [[agents]]: its system prompt, unless there is another, and its home provider "
            "first.",
        },
    ),
    (
        ("--tier",),
        {
            "type": click.Choice(("auto", *TIERS)),
            "help": "Model tier (default: that of the task type, else standard); auto decides by length.",
        },
    ),
    (
        ("--model", "models"),
        {
            "metavar": "A,B,C",
            "help": "Use only these models, in this order: B only when A can't serve in time.",
        },
    ),
    (
        ("--max-tokens",),
        {
            "type": int,
            "metavar": "N",
            "help": "Limit the answer to N tokens (default: by tier, see [tiers]).",
        },
    ),
    (
        ("--temperature",),
        {
            "type": float,
            "metavar": "T",
            "help": "Sampling temperature from 0 to 2 (default: the model's own).",
        },
    ),
    (
        ("--top-p",),
        {"type": float, "metavar": "P", "help": "Sample from this share of the probability, 0 to 1."},
    ),
    (
        ("--seed",),
        {"type": int, "metavar": "N", "help": "Seed for sampling, for models that take one."},
    ),
    (
        ("--reasoning-effort",),
        {
            "type": click.Choice(REASONING_EFFORTS),
            "help": "How much the model reasons before it answers (default: the model's own).",
        },
    ),
    (
        ("--service-tier",),
        {
            "type": click.Choice((FLEX, STANDARD)),
            "help": "flex: half price and slower answers, at OpenAI models that take it, where the deadline "
            "allows it (default: standard).",
        },
    ),
    (
        ("--system",),
        {"metavar": "TEXT", "callback": text_or_file, "help": "System prompt; @FILE reads it from a file."},
    ),
)


def row_options(command: Command) -> Command:
    """Add the options for the fields of a task; with a file, for rows that do not set the field."""
    for names, settings in reversed(ROW_OPTIONS):
        command = click.option(*names, **settings)(command)
    return shaping(command)


def reading(command: Command) -> Command:
    """Add the options of a command that reads a file of tasks."""
    for add in (
        click.option("--only", metavar="PROVIDERS", help=ONLY),
        click.option("--within", "deadline", metavar="DURATION", help=WITHIN),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Read only the first N tasks."),
        click.option(
            "--sample-seed",
            type=click.IntRange(0),
            metavar="S",
            default=1,
            show_default=True,
            help="Choose another sample.",
        ),
        click.option(
            "--sample",
            type=click.IntRange(1),
            metavar="N",
            help="Read only N tasks, chosen at random; the same ones in every run.",
        ),
        click.option(
            "--id-column",
            metavar="NAME",
            help="Take ids from this column or key (default: id, if there is one).",
        ),
        click.option(
            "--prompt-file",
            type=FILE,
            metavar="FILE",
            help="Read the text of --prompt from a file.",
        ),
        click.option(
            "--prompt",
            metavar="TEXT",
            help='Make the prompts from this text; its {column} is filled from each row: "Classify: {text}".',
        ),
        click.option(
            "--format",
            "fmt",
            type=click.Choice(tuple(FORMATS)),
            help="Read the tasks in this format instead of guessing it from ending and first line; with "
            "openai-batch the results are batch rows too.",
        ),
    ):
        command = add(command)
    return row_options(command)


def shaping(command: Command) -> Command:
    """Add the options for the form of an answer."""
    choices = 'Restrict the answer to {"choice": one of these}.'
    command = click.option("--choices", metavar="A,B,C", help=choices)(command)
    schema = "Require answers that match this JSON schema."
    return click.option("--response-schema", type=FILE, metavar="FILE", help=schema)(command)


def pooling(command: Command) -> Command:
    """Add the options of a command that works with a pool, or plans it."""
    about = "Use only models that take all parameters of a task, instead of dropping parameters."
    command = click.option("--strict-params", is_flag=True, help=about)(command)
    most = "At most so many calls at once (default: the slots of all agents)."
    return click.option("--concurrency", type=click.IntRange(1), metavar="N", help=most)(command)


def with_workers(command: Command) -> Command:
    """Add the option that says where calls are made."""
    about = "Make calls here (local, the default) or on a Ray cluster (ray:auto, ray:HOST:PORT)."
    return click.option("--workers", metavar="WHERE", help=about)(command)


def read_options(options: dict[str, Any]) -> ReadOptions:
    """Take the options of `reading` out of `options`. Raises InputError."""
    defaults = replace(row_defaults(options), deadline=options.pop("deadline"))
    defaults.check(option_of)
    fmt, limit, only, ids, file, text = (
        options.pop(name) for name in ("fmt", "limit", "only", "id_column", "prompt_file", "prompt")
    )
    sample, seed = options.pop("sample"), options.pop("sample_seed")
    if file is not None and text is not None:
        raise InputError("both --prompt and --prompt-file are given; one of them is allowed")
    template = None if file is None else Template.read(file)
    if text is not None:
        template = Template.of(text, "--prompt")
    return ReadOptions(
        fmt=fmt,
        template=template,
        id_column=ids,
        limit=limit,
        sample=sample,
        sample_seed=seed,
        defaults=defaults,
        only=tuple(names(only, "--only")),
    )


def row_defaults(options: dict[str, Any]) -> RowDefaults:
    """Take the options of `row_options` out of `options`. Raises InputError."""
    schema, choices, models = (options.pop(name) for name in ("response_schema", "choices", "models"))
    defaults = RowDefaults(
        response_schema=None if schema is None else read_schema(schema),
        choices=tuple(names(choices, "--choices")),
        models=tuple(names(models, "--model")),
        **{name: options.pop(name) for name in PLAIN_FIELDS},
    )
    defaults.check(option_of)
    return defaults


def names(text: str | None, option: str) -> list[str]:
    """The names in a list that is separated by commas. Raises InputError for an option without any."""
    found = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not found:
        raise InputError(f"{option} must not be empty")
    return found


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN and infinity, which click lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{found} is no finite number.", param, ctx)
        return float(super().convert(found, param, ctx))
