"""The commands and their options. What they do is in the file that bears the command's name."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import key_trust
from ..core.intake import FORMATS, Pins, ReadOptions, Template, read_shape
from ..errors import OrchestratorError
from ..logging_setup import LEVELS
from ..settings import TIERS
from ..stop_signals import drop_lost_terminals, stop_signals
from .exit_codes import STOPPED, WRONG_INPUT
from .progress import say
from .setup import Options

FILE = click.Path(path_type=Path, dir_okay=False)
USD = click.FloatRange(min=0.0, min_open=True)
JSON = "Output JSON."
QUIET = "Print only errors, warnings and totals: no progress and no tables."
ONLY = "Use only these providers, separated by commas: anthropic,gemini."
Command = TypeVar("Command", bound=Callable[..., Any])


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Options that all commands share may stand before or after the command's name."""
    options = context.ensure_object(Options)
    if parameter.name and value not in (None, False):
        setattr(options, parameter.name, value)


def _shared(command: Command) -> Command:
    """Add the options that every command takes."""
    folder = click.Path(path_type=Path, file_okay=False)
    shared: list[tuple[str, dict[str, Any]]] = [
        (
            "--config",
            {
                "type": FILE,
                "metavar": "FILE",
                "help": "Settings over those of orchestrator.toml (default: ORCHESTRATOR_CONFIG).",
            },
        ),
        ("--simulate", {"is_flag": True, "help": "Use the built-in simulator although there are keys."}),
        (
            "--simulator-config",
            {
                "type": FILE,
                "metavar": "FILE",
                "help": "JSON with the simulator's limits and faults; means --simulate.",
            },
        ),
        (
            "--state-dir",
            {
                "type": folder,
                "metavar": "DIR",
                "help": "Where databases and logs are kept (default: ORCHESTRATOR_STATE_DIR, else state).",
            },
        ),
        (
            key_trust.FLAG,
            {
                "is_flag": True,
                "help": "Let .env and the configuration say where keys of the environment go; remembered "
                "until one of them changes.",
            },
        ),
        (
            "--log-level",
            {"type": click.Choice(LEVELS), "help": "What is logged to the terminal (default: warning)."},
        ),
    ]
    for name, settings in reversed(shared):
        command = click.option(name, expose_value=False, callback=_remember, **settings)(command)
    return command


def _reading(command: Command) -> Command:
    """Add the options of a command that reads a file of tasks."""
    for add in (
        click.option("--only", metavar="PROVIDERS", help=ONLY),
        click.option("--model", metavar="MODEL", help="Use only this model, whatever the lines name."),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Take only the first N tasks."),
        click.option(
            "--prompt-file",
            type=FILE,
            metavar="FILE",
            help="Make the prompts of this text, whose {column} is filled from each row of a CSV file.",
        ),
        click.option(
            "--format",
            "fmt",
            type=click.Choice(tuple(FORMATS)),
            help="What the tasks are, instead of guessing by ending and first line; with openai-batch the "
            "results are batch rows too.",
        ),
    ):
        command = add(command)
    return _shaping(command)


def _shaping(command: Command) -> Command:
    """Add the options that say what an answer must look like."""
    about = "A JSON schema that the answer must match."
    choices = 'The answer is {"choice": one of these}.'
    command = click.option("--choices", metavar="A,B,C", help=choices)(command)
    return click.option("--response-schema", type=FILE, metavar="FILE", help=about)(command)


def _strict_params(command: Command) -> Command:
    """Add the option of a command that chooses models, or foretells the choice."""
    about = "Leave a task to models that take all its parameters, instead of leaving parameters out."
    return click.option("--strict-params", is_flag=True, help=about)(command)


def _shape(options: dict[str, Any]) -> dict[str, Any]:
    return read_shape(options.pop("response_schema"), _names(options.pop("choices")))


def _read_options(options: dict[str, Any]) -> ReadOptions:
    """How a file of tasks is to be read; takes what says so out of `options`. Raises InputError."""
    shape = _shape(options)
    fmt, limit, model, only, prompt_file = (
        options.pop(name) for name in ("fmt", "limit", "model", "only", "prompt_file")
    )
    template = None if prompt_file is None else Template.read(prompt_file)
    return ReadOptions(fmt, template, limit, Pins(model or "", tuple(_names(only))), shape)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from ..config import version

        click.echo(f"LLM agent orchestrator {version()}")
        context.exit()


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@_shared
@click.option("--quiet", is_flag=True, help=QUIET)
@click.option("--examples", is_flag=True, help="Run the built-in examples first (simulator only).")
@click.option("--once", is_flag=True, help="Answer what is on the queue, then end.")
@click.option("--pages", is_flag=True, help="Serve the pages too, on http://localhost:5000 (or PORT).")
@click.option("--yes", is_flag=True, help="With keys: answer what is queued already without asking.")
@click.option(
    "--standby",
    is_flag=True,
    help="Wait until no other orchestrator serves this state, then take over.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context, /, **options: bool) -> None:
    """Answer LLM tasks with a pool of agents over Claude, GPT and Gemini.

    Without a command: serve the queue until Ctrl-C. Without an API key in the environment or in .env the
    providers are simulated, and nothing is spent. With keys, tasks that are queued already are named with
    their expected cost, and answered after a yes on the terminal or with --yes.

    Exit code 2: the input or the configuration is wrong; 3: the database can't be used now (out of reach,
    locked, full, served by another orchestrator), and the same command may do later.
    """
    if context.invoked_subcommand is None:
        from .serve import serve

        try:
            context.exit(serve(context.obj, **options))
        except KeyboardInterrupt:  # Ctrl-C is how a server ends, also while it starts
            context.exit(0)


@cli.command(short_help="Run a file of tasks to its end.")
@_shared
@click.argument("tasks")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where the results go: a table by the ending .csv or .tsv, else JSON Lines; - is standard output.",
)
@_reading
@click.option(
    "--rejects",
    type=FILE,
    metavar="FILE",
    help="Where bad lines go with their reasons (default: NAME.rejects.jsonl beside the results).",
)
@click.option(
    "--excel-safe",
    is_flag=True,
    help="In a table, begin cells with an apostrophe that a spreadsheet would calculate.",
)
@click.option("--quiet", is_flag=True, help=QUIET)
@click.option("--agent-prompts", is_flag=True, help="Add the agents' system prompts to tasks without one.")
@click.option(
    "--max-cost",
    type=USD,
    metavar="USD",
    help="End, resumably, before more than this is spent on the results file, all runs together.",
)
@click.option("--yes", is_flag=True, help="Skip the cost confirmation.")
@click.option(
    "--rerun-changed", is_flag=True, help="Run tasks again whose content has changed under the same id."
)
@click.option(
    "--retry",
    metavar="STATUSES",
    help="Run tasks again that ended as: failed,refused,expired,cancelled,truncated.",
)
@click.option("--dedupe", is_flag=True, help="Ask equal tasks once, unless their temperature is above 0.")
@click.option("--cheapest", is_flag=True, help="Prefer the cheapest provider that can serve a task.")
@_strict_params
@click.option("--json", "as_json", is_flag=True, help="Output progress and summary as JSON lines.")
@click.pass_context
def run(context: click.Context, /, tasks: str, output: str | None, **options: Any) -> None:
    """Run a file of TASKS (JSON Lines, CSV, OpenAI batch lines, or plain text; - is standard input).

    The results go to TASKS with the ending .results.jsonl unless -o says otherwise. Run the same command
    again after an interruption: it goes on where it stopped. Exit code 0: all were answered, 1: some were
    not, 2: the input or the configuration is wrong, 3: the database or the results can't be written now.
    """
    from .run import run as run_tasks

    context.exit(run_tasks(context.obj, tasks, output, reading=_read_options(options), **options))


@cli.command(short_help="Estimate cost and time for a file.")
@_shared
@click.argument("tasks")
@_reading
@_strict_params
@click.option("--json", "as_json", is_flag=True, help=JSON)
@click.pass_context
def plan(context: click.Context, /, tasks: str, strict_params: bool, as_json: bool, **options: Any) -> None:
    """Estimate what running TASKS costs, how long it takes and which limits bind, without a call."""
    from .plan import plan as plan_tasks

    reading = _read_options(options)
    context.exit(plan_tasks(context.obj, tasks, reading, strict_params=strict_params, as_json=as_json))


@cli.command("suggest-weights", short_help="Propose base weights from what was recorded.")
@_shared
@click.option(
    "--hours",
    type=click.FloatRange(0.01, 24 * 366),
    metavar="H",
    default=24.0,
    show_default=True,
    help="How far back to look.",
)
@click.option("--json", "as_json", is_flag=True, help=JSON)
@click.pass_context
def suggest_weights(context: click.Context, /, hours: float, as_json: bool) -> None:
    """Propose base weights: recorded traffic is replayed under several candidates, without a call."""
    from .advice import suggest_weights as suggest

    context.exit(suggest(context.obj, hours=hours, as_json=as_json))


@cli.command("alert-test", short_help="Send one alert to ALERT_WEBHOOK_URL.")
@_shared
@click.pass_context
def alert_test(context: click.Context, /) -> None:
    """Send one alert to ALERT_WEBHOOK_URL and print what it answered."""
    from .advice import alert_test as send

    context.exit(send(context.obj))


@cli.command(short_help="Put one prompt on the queue.")
@_shared
@click.argument("prompt")
@click.option(
    "--type",
    "task_type",
    metavar="TYPE",
    help="code_generation, creative_writing, research, analysis, or a row of [task_types].",
)
@click.option(
    "--tier",
    type=click.Choice(("auto", *TIERS)),
    help="Model tier (default: auto, by type and length).",
)
@click.option("--model", "models", metavar="MODEL", help="Use only this model.")
@click.option("--only", "providers", metavar="PROVIDERS", help=ONLY)
@click.option(
    "--max-tokens", type=int, metavar="N", help="The longest answer (default: by tier, see [tiers])."
)
@click.option(
    "--temperature",
    type=float,
    metavar="T",
    help="From 0 to 2 (default: the model's own); higher varies more.",
)
@click.option("--system", metavar="TEXT", help="A system prompt.")
@_shaping
@click.option(
    "--deadline",
    "deadline_s",
    type=float,
    metavar="SECONDS",
    help="Expire if unanswered after so many seconds.",
)
@click.option("--priority", type=int, metavar="N", help="Higher goes first (default: 0).")
@click.option("--id", metavar="ID", help="A name of your own, unique in the queue.")
@click.option(
    "--wait", is_flag=True, help="Print the answer when it has come; refused while no orchestrator serves."
)
@click.option(
    "--serve",
    is_flag=True,
    help="Print the answer; while no orchestrator serves, answer this task here, and no other one.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Output the id, or with an answer the whole result row, as JSON."
)
@click.pass_context
def submit(context: click.Context, /, wait: bool, serve: bool, as_json: bool, **fields: Any) -> None:
    """Put one PROMPT on the queue (- reads it from standard input) and print its id.

    A running orchestrator answers it, or else the next one that is started. Exit code with --wait or
    --serve: 0, it was answered; 1, it was not, or the orchestrator ended meanwhile and none came within 20 s
    (the task stays queued); 2, no orchestrator serves the queue, and nothing was queued.
    """
    from .queue import submit as submit_task

    if fields["prompt"] == "-":
        fields["prompt"] = sys.stdin.read()
    fields["providers"] = _names(fields["providers"]) or None
    fields |= _shape(fields)
    context.exit(submit_task(context.obj, fields, wait=wait, serve=serve, as_json=as_json))


@cli.command(short_help="Show the providers and the queue.")
@_shared
@click.option("--json", "as_json", is_flag=True, help=JSON)
@click.pass_context
def status(context: click.Context, /, as_json: bool) -> None:
    """Show the providers' state and the queue."""
    from .queue import status as show_status

    context.exit(show_status(context.obj, as_json=as_json))


@cli.command(short_help="Try keys, providers, database, disk and port.")
@_shared
@click.pass_context
def check(context: click.Context, /) -> None:
    """Try everything that is needed: keys, providers (by a free call), database, disk, port."""
    from .check import check as check_all

    context.exit(check_all(context.obj))


@cli.command(short_help="Show each setting and where it comes from.")
@_shared
@click.pass_context
def config(context: click.Context, /) -> None:
    """Show each setting and where its value comes from; of keys only whether they are set."""
    from .show_config import show_config

    context.exit(show_config(context.obj))


def main() -> None:
    """Run the command line; ends the process. What a user can set right is one line, not a traceback."""
    for number in stop_signals():
        signal.signal(number, _interrupt)  # until a run listens itself
    if sys.platform == "win32":
        _speak_utf8()
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG_INPUT)
    except OrchestratorError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):  # before the loop listens, or after it
        say("stopped")
        sys.exit(STOPPED)


def _interrupt(number: int, _frame: object) -> None:
    drop_lost_terminals()
    raise KeyboardInterrupt


def _speak_utf8() -> None:
    """A pipe or an old console of Windows has a code page in which most answers can't be written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
