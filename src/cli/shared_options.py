"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import key_trust
from ..core.intake import FORMATS, Pins, ReadOptions, Template, read_answer_shape
from ..logging_setup import LEVELS
from .session import Options

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
JSON = "Output JSON."
QUIET = "Print only errors, warnings and totals."
ONLY = "Use only these providers, separated by commas: anthropic,gemini."
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


def reading(command: Command) -> Command:
    """Add the options of a command that reads a file of tasks."""
    for add in (
        click.option("--only", metavar="PROVIDERS", help=ONLY),
        click.option("--model", metavar="MODEL", help="Use only this model, whatever the rows name."),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Read only the first N tasks."),
        click.option(
            "--prompt-file",
            type=FILE,
            metavar="FILE",
            help="Make the prompts from this text; fill its {column} from each row of a CSV file.",
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
    return shaping(command)


def shaping(command: Command) -> Command:
    """Add the options for the form of an answer."""
    choices = 'Restrict the answer to {"choice": one of these}.'
    command = click.option("--choices", metavar="A,B,C", help=choices)(command)
    schema = "Require answers that match this JSON schema."
    return click.option("--response-schema", type=FILE, metavar="FILE", help=schema)(command)


def strict_params(command: Command) -> Command:
    """Add the option of a command that chooses models, or plans the choice."""
    about = "Use only models that take all parameters of a task, instead of dropping parameters."
    return click.option("--strict-params", is_flag=True, help=about)(command)


def shape_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take the form of an answer out of `options`. Raises InputError."""
    return read_answer_shape(options.pop("response_schema"), names(options.pop("choices")))


def read_options(options: dict[str, Any]) -> ReadOptions:
    """Take the options of `reading` out of `options`. Raises InputError."""
    shape = shape_of(options)
    fmt, limit, model, only, prompt_file = (
        options.pop(name) for name in ("fmt", "limit", "model", "only", "prompt_file")
    )
    template = None if prompt_file is None else Template.read(prompt_file)
    return ReadOptions(fmt, template, limit, Pins(model or "", tuple(names(only))), shape)


def names(text: str | None) -> list[str]:
    """The names in a list that is separated by commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]
