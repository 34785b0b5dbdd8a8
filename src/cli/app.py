"""The commands and their options. The module of a command has its name."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ..errors import InputError, OrchestratorError
from ..records import MAX_USD
from ..settings import LOG_FORMATS
from ..stop_signals import drop_lost_terminals, stop_signals
from ..storable import clean, is_clean
from ..tokens import ROLES, SUBMIT, Role
from .exit_codes import STOPPED, WRONG_INPUT
from .session import Options, PoolOptions
from .shared_options import (
    FILE,
    JSON,
    ONLY,
    QUIET,
    FiniteRange,
    everywhere,
    names,
    pooling,
    read_options,
    reading,
    row_defaults,
    row_options,
    with_workers,
)

MAX_NUMBER = 2**63 - 1  # the largest integer of the databases
USD = FiniteRange(min=0.0, min_open=True, max=MAX_USD)


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from ..package import version

        click.echo(f"LLM agent orchestrator {version()}")
        context.exit()


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@everywhere
@click.option("--quiet", is_flag=True, help=QUIET)
@click.option("--examples", is_flag=True, help="Run the built-in examples first (simulator only).")
@click.option("--once", is_flag=True, help="Answer the queued tasks, then exit.")
@click.option("--pages", is_flag=True, help="Serve the pages too, on http://localhost:5000 (or PORT).")
@click.option("--yes", is_flag=True, help="Answer tasks that are queued already without asking.")
@click.option(
    "--gateway-port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Serve the OpenAI and Anthropic APIs on this port (default: ORCHESTRATOR_GATEWAY_PORT, else 5001); "
    "0 takes any free one.",
)
@click.option("--no-gateway", is_flag=True, help="Do not serve the OpenAI and Anthropic APIs.")
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    help="Format of what the server prints; json is one object a line, on standard output (default: the "
    "setting log_format, text).",
)
@with_workers
@click.option("--standby", is_flag=True, help="Take over when no other orchestrator serves this state.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Answer LLM tasks with a pool of agents over Claude, GPT and Gemini.

    Without a command, serve the queue until Ctrl-C. Without an API key in the environment or in .env, the
    providers are simulated and nothing is spent. With keys, tasks that are queued already are listed with
    their expected cost, and answered after a yes on the terminal or with --yes.

    A server also speaks the OpenAI and Anthropic APIs, by default on http://127.0.0.1:5001; `env` prints what
    a client needs.

    Exit code 2: the input or the configuration is wrong. 3: the database can't be used now (unreachable,
    locked, full, served by another orchestrator); the same command may succeed later.
    """
    if context.invoked_subcommand is None:
        from .serve import ServeOptions, serve

        try:
            context.exit(serve(context.obj, ServeOptions(**options)))
        except KeyboardInterrupt:  # Ctrl-C is how a server ends, also while it starts
            context.exit(0)


@cli.command(short_help="Run a file of tasks to its end.")
@everywhere
@click.argument("tasks")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write results to FILE: a table for .csv, .tsv or .parquet, else JSON Lines; - is standard output.",
)
@reading
@click.option(
    "--rejects",
    type=FILE,
    metavar="FILE",
    help="Save bad lines with their reasons to FILE (default: NAME.rejects.jsonl beside the results).",
)
@click.option(
    "--excel-safe",
    is_flag=True,
    help="Begin table cells that a spreadsheet would calculate with an apostrophe.",
)
@click.option(
    "--columns",
    type=click.Choice(("short", "all")),
    default="short",
    help="Columns of a table: your own and the answer (short, the default), or all that is known (all).",
)
@click.option(
    "--order",
    type=click.Choice(("input", "completion")),
    help="Order of the results; input puts a finished file into it (default: input for a table, else "
    "completion).",
)
@click.option("--quiet", is_flag=True, help=QUIET)
@click.option(
    "--max-cost",
    type=USD,
    metavar="USD",
    help="Stop, resumably, before more than this is spent on the results file, all runs together.",
)
@click.option("--yes", is_flag=True, help="Skip the cost confirmation.")
@click.option(
    "--rerun-changed", is_flag=True, help="Rerun tasks whose content has changed under the same id."
)
@click.option(
    "--retry",
    metavar="STATUSES",
    help="Retry rows with these statuses: failed,refused,expired,cancelled,truncated.",
)
@click.option("--dedupe", is_flag=True, help="Run equal tasks once, unless their temperature is above 0.")
@click.option("--cheapest", is_flag=True, help="Prefer the cheapest free provider, whatever the task type.")
@pooling
@with_workers
@click.option("--json", "as_json", is_flag=True, help="Output progress and summary as JSON lines.")
@click.pass_context
def run(context: click.Context, /, tasks: str, **options: Any) -> None:
    """Run a file of TASKS (JSON Lines, CSV, OpenAI batch lines, or plain text; - is standard input).

    Results go to TASKS with the ending .results.jsonl, or to the file of -o. Rerun the same command to
    resume; answered tasks are never run again. Exit code 0: all were answered, 1: some were not, 2: the
    input or the configuration is wrong, 3: the database or the results can't be written now.
    """
    from .batch import WriteOptions
    from .rerun import RerunOptions, parse_statuses
    from .run import RunOptions
    from .run import run as run_tasks

    rerun = RerunOptions(
        parse_statuses(options.pop("retry")), options.pop("rerun_changed"), options.pop("dedupe")
    )
    names = ("strict_params", "concurrency", "cheapest", "workers")
    pool = PoolOptions(*(options.pop(name) for name in names))
    writing = WriteOptions(options.pop("excel_safe"), options.pop("columns") == "all", options.pop("order"))
    reading = read_options(options)
    how = RunOptions(source=tasks, reading=reading, writing=writing, rerun=rerun, pool=pool, **options)
    context.exit(run_tasks(context.obj, how))


@cli.command(short_help="Estimate cost and time for a file.")
@everywhere
@click.argument("tasks")
@reading
@pooling
@click.option("--json", "as_json", is_flag=True, help=JSON)
@click.pass_context
def plan(context: click.Context, /, tasks: str, as_json: bool, **options: Any) -> None:
    """Estimate cost, time and bottlenecks of running TASKS, without calling a provider."""
    from .plan import plan as plan_tasks

    found = read_options(options)
    context.exit(plan_tasks(context.obj, tasks, found, PoolOptions(**options), as_json=as_json))


@cli.command("suggest-weights", short_help="Propose base weights from recorded traffic.")
@everywhere
@click.option(
    "--hours",
    type=FiniteRange(0.01, 24 * 366),
    metavar="H",
    default=24.0,
    show_default=True,
    help="Replay the traffic of the last H hours.",
)
@click.option("--apply", is_flag=True, help="Set the proposed weights, as the page Rebalance does.")
@click.option("--undo", is_flag=True, help="Revert the last change of weights; repeat for earlier ones.")
@click.option("--json", "as_json", is_flag=True, help=JSON)
@click.pass_context
def suggest_weights(context: click.Context, /, hours: float, apply: bool, undo: bool, as_json: bool) -> None:
    """Propose base weights: replay recorded traffic under several candidates, without a call.

    Weights that are set stay in force for this state until they are changed again. A running orchestrator
    takes them over within a second.
    """
    from .suggest_weights import suggest_weights as suggest
    from .suggest_weights import undo_weights

    if apply and undo:
        raise InputError("both --apply and --undo are given; one of them is allowed")
    if undo:
        context.exit(undo_weights(context.obj, as_json=as_json))
    context.exit(suggest(context.obj, hours=hours, apply=apply, as_json=as_json))


@cli.command(short_help="Delete prompts and answers of ended tasks.")
@everywhere
@click.option("--older-than", metavar="AGE", help="Purge tasks that ended longer ago than AGE, such as 30d.")
@click.option("--batch", metavar="NAME", help="Purge tasks of this batch, or of this results file.")
@click.option("--dry-run", is_flag=True, help="Only print what would be purged.")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
@click.option("--json", "as_json", is_flag=True, help=JSON)
@click.pass_context
def purge(context: click.Context, /, **options: Any) -> None:
    """Delete prompts and answers of ended tasks from the database, and with --older-than events of that age.

    Ids, costs and results files stay: a resumed run repeats no task. Open tasks keep their prompts. The
    setting retention_days does this by itself. While no orchestrator runs, an SQLite file also becomes
    smaller.
    """
    from .purge import purge as purge_contents

    context.exit(purge_contents(context.obj, **options))


@cli.command(short_help="Copy the SQLite database while it is in use.")
@everywhere
@click.argument("target", metavar="FILE", type=FILE)
@click.pass_context
def backup(context: click.Context, /, target: Path) -> None:
    """Copy the SQLite database of this mode to FILE, which must not exist, also while a server writes to it.

    PostgreSQL has pg_dump for that.
    """
    from .backup import backup as back_up

    context.exit(back_up(context.obj, target))


@cli.command("alert-test", short_help="Send one alert to ALERT_WEBHOOK_URL.")
@everywhere
@click.pass_context
def alert_test(context: click.Context, /) -> None:
    """Send one alert to ALERT_WEBHOOK_URL and print the response."""
    from .alert_test import alert_test as send

    context.exit(send(context.obj))


@cli.command(short_help="Queue one prompt.")
@everywhere
@click.argument("prompt")
@row_options
@click.option("--only", "providers", metavar="PROVIDERS", help=ONLY)
@click.option(
    "--deadline", metavar="DURATION", help="Expire if unanswered after DURATION, such as 90s, 30m or 24h."
)
@click.option("--priority", type=int, metavar="N", help="Priority; higher goes first (default: 0).")
@click.option("--id", metavar="ID", help="Name the task; the name must be unique in the queue.")
@click.option("--wait", is_flag=True, help="Print the answer when it is ready; needs a running orchestrator.")
@click.option(
    "--serve",
    is_flag=True,
    help="Print the answer; without a running orchestrator, answer this task here, and no other one.",
)
@click.option("--json", "as_json", is_flag=True, help="Output the id, or the result row, as JSON.")
@click.pass_context
def submit(context: click.Context, /, wait: bool, serve: bool, as_json: bool, **fields: Any) -> None:
    """Queue one PROMPT (- reads it from standard input) and print its id.

    A running orchestrator answers it, or the next one that is started. Exit code with --wait or --serve: 0,
    it was answered; 1, it was not, or the orchestrator ended and none followed within 20 s (the task stays
    queued); 2, no orchestrator serves the queue, and nothing was queued.
    """
    from .submit import SubmitOptions
    from .submit import submit as submit_task

    if fields["prompt"] == "-":
        fields["prompt"] = sys.stdin.read()
    fields["providers"] = names(fields["providers"], "--only") or None
    fields |= row_defaults(fields).given()
    how = SubmitOptions(wait=wait, serve=serve, as_json=as_json)
    context.exit(submit_task(context.obj, fields, how))


@cli.command(short_help="Show the providers and the queue.")
@everywhere
@click.option("--json", "as_json", is_flag=True, help=JSON)
@click.pass_context
def status(context: click.Context, /, as_json: bool) -> None:
    """Show the state of the providers and the queue."""
    from .status import status as show_status

    context.exit(show_status(context.obj, as_json=as_json))


@cli.command(short_help="Show the batches at providers, or cancel one.")
@everywhere
@click.option("--open", "only_open", is_flag=True, help="Leave out batches that are done with.")
@click.option(
    "--cancel",
    type=click.IntRange(1, MAX_NUMBER),
    metavar="N",
    help="Cancel batch N; its rows that are not done go live, at the full price.",
)
@click.option("--json", "as_json", is_flag=True, help=JSON)
@click.pass_context
def batches(context: click.Context, /, only_open: bool, cancel: int | None, as_json: bool) -> None:
    """Show the newest batches at providers, with their rows, age, expected end and cost.

    Rows of `run --within 24h` that may wait are in such batches. A running orchestrator cancels one within
    seconds, else the next one that is started does.
    """
    from .batches import batches as show_batches
    from .batches import cancel_batch

    if cancel is not None:
        context.exit(cancel_batch(context.obj, cancel, as_json=as_json))
    context.exit(show_batches(context.obj, only_open=only_open, as_json=as_json))


@cli.command(short_help="Test keys, providers, database, disk and port.")
@everywhere
@click.pass_context
def check(context: click.Context, /) -> None:
    """Test keys, providers (one free call each), database, disk and port."""
    from .check import check as check_all

    context.exit(check_all(context.obj))


@cli.command("drain-workers", short_help="Let this machine's workers finish, before Ray is stopped.")
@everywhere
@click.option(
    "--wait",
    type=FiniteRange(min=0.0),
    metavar="SECONDS",
    default=120.0,
    show_default=True,
    help="Wait at most so long for calls in flight.",
)
@click.pass_context
def drain_workers(context: click.Context, /, wait: float) -> None:
    """Let the workers of this machine's Ray node finish the calls that they hold, and take no others.

    For a machine that makes calls, before `ray stop`: see docs/scaling.md. Exit code 0: they hold nothing, 1:
    some still do.
    """
    from .drain_workers import drain_workers as drain

    context.exit(drain(context.obj, wait_s=wait))


@cli.command(short_help="Show each setting and its source.")
@everywhere
@click.pass_context
def config(context: click.Context, /) -> None:
    """Show each setting and its source. Keys are only shown as set or not set."""
    from .show_config import show_config

    context.exit(show_config(context.obj))


@cli.command(short_help="Make a token for a person or program.")
@everywhere
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default=SUBMIT,
    show_default=True,
    help="What the holder may do: submit and see own tasks, read everything, or operate.",
)
@click.option("--expires-in", metavar="AGE", help="End the token after AGE, such as 30d (default: never).")
@click.pass_context
def token(context: click.Context, /, name: str, role: Role, expires_in: str | None) -> None:
    """Print a section for ORCHESTRATOR_TOKENS_FILE that lets NAME in, and the token on standard error.

    The file holds a digest of the token only, so the token can't be shown again. A running server reads the
    file again on SIGHUP.
    """
    from .token import token as make_token

    context.exit(make_token(context.obj, name, role=role, expires_in=expires_in))


@cli.command("env", short_help="Print a client's settings for the gateway.")
@everywhere
@click.argument("client", type=click.Choice(("openai", "anthropic", "claude-code")))
@click.pass_context
def env(context: click.Context, /, client: str) -> None:
    """Print export lines that point CLIENT at the gateway, for the client's shell, not the server's."""
    from .client_env import client_env

    context.exit(client_env(context.obj, client))


def main() -> None:
    """Run the command line and exit. An error that a user can fix is one line, not a traceback."""
    code = _exit_code()
    with suppress(OSError, ValueError):  # its reader is gone, or it was closed
        sys.stdout.flush()
    _end_at_once_on_signals(code)  # threads are joined and modules torn down: nothing is left to stop
    sys.exit(code)


def _exit_code() -> int:
    """Run the command; what it raises becomes a line and an exit code."""
    options = Options()
    try:
        for number in stop_signals():
            signal.signal(number, _interrupt)  # until a run handles them
        _open_closed_streams()
        if sys.platform == "win32":
            _use_utf8()
        _refuse_unstorable_arguments()
        return int(cli.main(standalone_mode=False, obj=options) or 0)
    except click.ClickException as error:
        error.show()
        return WRONG_INPUT
    except OrchestratorError as error:
        options.console.error(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):  # before the loop handles signals, or after it
        _end_at_once_on_signals(STOPPED)
        options.console.note("stopped")
        return STOPPED


def _end_at_once_on_signals(code: int) -> None:
    for number in stop_signals():
        signal.signal(number, lambda *_: os._exit(code))


def _refuse_unstorable_arguments() -> None:
    """Arguments become ids and names in the database, which takes only valid text."""
    for argument in sys.argv[1:]:
        if not is_clean(argument):
            raise InputError(f"argument {clean(argument)!r} is not valid {sys.getfilesystemencoding()} text")


def _open_closed_streams() -> None:
    """Give streams that were closed at the start (`>&-`) a place, so that no database or socket takes it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open for the life of the process


def _interrupt(number: int, _frame: object) -> None:
    drop_lost_terminals()
    raise KeyboardInterrupt


def _use_utf8() -> None:
    """Pipes and old consoles on Windows have a code page that lacks most characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
