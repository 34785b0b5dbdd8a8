"""Serving the queue, the examples of a first start, and the small commands, as processes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from src.cli.app import cli
from src.core.store import Store
from src.dependencies import exit_if_not_installed
from src.package import version
from src.simulator.process import SimulatorProcess
from tests.helpers import (
    ORCHESTRATOR,
    PROGRAM,
    ROOT,
    Script,
    Terminal,
    child_environment,
    live_environment,
    read_rows,
    run_script,
    without_control_sequences,
    write_rows,
)


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"])


# ------------------------------------------------------------------ examples


def test_a_first_start_without_a_key_answers_the_examples(
    tmp_path: Path,
) -> None:
    done = run_script("--examples", "--once", cwd=tmp_path)
    assert done.process.returncode == 0, done.err
    assert "simulated: no API key was found" in done.err
    assert "first start: queued 60 tasks of" in done.err
    assert "60 of 60 tasks answered" in done.out
    named = re.search(r"^results: (.+)$", done.out, re.M)
    assert named is not None
    rows = read_rows(Path(named[1]))
    assert len({row["id"] for row in rows}) == len(rows) == 60
    assert {row["task_type"] for row in rows} > {
        "code_generation",
        "creative_writing",
        "research",
        "analysis",
    }


def test_the_examples_are_queued_once_and_the_queue_is_served_until_ctrl_c(tmp_path: Path) -> None:
    with Script("--examples", cwd=tmp_path) as server:
        server.wait_for("results: ")  # it signed on long ago
        answer = run_script("submit", "What is left?", "--type", "research", "--wait", cwd=tmp_path)
        server.interrupt()
        assert server.wait() == 0, server.err
    assert answer.process.returncode == 0 and answer.out.strip(), answer.err
    assert answer.err.startswith("simulated: no API key was found"), "the answer itself looks like any other"
    assert "60 of 60 tasks answered" in server.out and "served 61 tasks" in server.err
    with Script("--examples", cwd=tmp_path) as rerun:
        rerun.wait_for("serving the queue")
        rerun.terminate()
        assert rerun.wait() == 0, rerun.err
    assert "waiting up to" not in rerun.err, "no call was in flight"
    assert "all 60 tasks are already done; nothing to do" in rerun.err and rerun.out == ""
    shown = run_script("status", cwd=tmp_path)
    held = re.search(
        r"preferred provider in the last 24 hours: .*research (\d+) % of \d+ \(gemini\)", shown.out
    )
    assert held is not None and int(held[1]) > 50, shown.out


def test_with_a_key_nothing_is_spent_without_consent(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    done = run_script("--examples", "--once", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    assert "live: openai (key from OPENAI_API_KEY (environment))" in done.err
    assert re.search(
        r"not running the 60 examples \(about \$0\.\d+, at most \$\d\S+\). To run them:", done.err
    )
    assert "examples/tasks.jsonl -o results/examples.jsonl" in done.err
    assert simulator.stats()["openai"]["calls"] == 0


def test_config_shows_that_a_key_comes_from_a_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GEMINI_API_KEY=test-key-of-nobody\n")
    done = run_script("config", cwd=tmp_path)
    assert "key of gemini: set (from .env), GEMINI_API_KEY\n" in done.out
    assert "test-key-of-nobody" not in done.out + done.err


# ------------------------------------------------------------------ weights


def test_proposed_weights_are_applied_beside_a_server_and_undone_without_one(tmp_path: Path) -> None:
    with Script("--examples", cwd=tmp_path) as server:
        server.wait_for("results: ")
        applied = run_script("suggest-weights", "--apply", "--json", cwd=tmp_path)
        assert applied.process.returncode == 0, applied.err
        proposed = json.loads(applied.out)
        assert proposed["applied"] is True
        with Store.open(tmp_path / "state" / "simulated.db", simulated=True) as store:
            while _weights_of_server(store) != pytest.approx(proposed["proposed"]["weights"], abs=1e-3):
                assert server.process.poll() is None, server.err
                time.sleep(0.05)  # leaves the CPU to the server
        server.interrupt()
        assert server.wait() == 0, server.err
    again = run_script("suggest-weights", "--apply", cwd=tmp_path)
    assert "undo with: suggest-weights --undo" in again.err, again.err
    undone = [run_script("suggest-weights", "--undo", cwd=tmp_path) for _ in range(3)]
    assert [each.process.returncode for each in undone] == [0, 0, 1]
    configured = "weights in force: anthropic 30.0 %, openai 40.0 %, gemini 30.0 %\n"
    assert undone[1].err == configured and undone[2].err == "no change of weights is left to undo\n"
    both = run_script("suggest-weights", "--undo", "--apply", cwd=tmp_path)
    assert both.process.returncode == 2 and "both --apply and --undo are given" in both.err


def _weights_of_server(store: Store) -> dict[str, float]:
    """The weights of the running orchestrator, which looks for changes once a second."""
    snapshot, _ = store.orchestrators.latest_snapshot()
    return {provider.name: provider.weight for provider in snapshot.providers} if snapshot else {}


# ------------------------------------------------------------------ queue


def test_a_task_submitted_before_the_start_is_answered(tmp_path: Path, live: dict[str, str]) -> None:
    queued = run_script("submit", "Hello?", "--id", "mine", cwd=tmp_path, env=live)
    assert (queued.process.returncode, queued.out) == (0, "mine\n")
    assert f"no orchestrator is running; start one with: {PROGRAM}\n" in queued.err
    taken = run_script("submit", "Hello again?", "--id", "mine", cwd=tmp_path, env=live)
    assert taken.process.returncode == 2 and "id 'mine' is taken" in taken.err
    served = run_script("--once", "--yes", cwd=tmp_path, env=live)
    assert served.process.returncode == 0 and "served 1 task" in served.err
    output = json.loads(run_script("status", "--json", cwd=tmp_path, env=live).out)
    assert (output["running"], output["simulated"], output["tasks"]["succeeded"]) == (False, False, 1)


def test_a_task_that_names_an_agent_is_answered_with_its_system_prompt(tmp_path: Path) -> None:
    unknown = run_script("submit", "Hello?", "--agent", "nobody", cwd=tmp_path)
    assert unknown.process.returncode == 2
    assert "unknown agent 'nobody'; choose from claude-analyst, claude-writer, gpt-engineer" in unknown.err
    answered = run_script(
        "submit", "Hello?", "--agent", "gpt-engineer", "--id", "mine", "--serve", "--json", cwd=tmp_path
    )
    row = json.loads(answered.out)
    assert (row["status"], row["agent"], row["provider"]) == ("succeeded", "gpt-engineer", "openai"), row
    rows = [{"id": "a", "prompt": "Hi", "agent": "claude-writer"}, {"id": "b", "prompt": "Hi"}]
    write_rows(tmp_path / "tasks.jsonl", rows)
    plan = run_script("plan", "tasks.jsonl", cwd=tmp_path)
    line = "1 task names the agent claude-writer: its system prompt comes first, unless it has its own"
    assert line in plan.out
    run_script("run", "tasks.jsonl", cwd=tmp_path)
    with Store.open(tmp_path / "state" / "simulated.db", simulated=True) as store:
        (batch,) = [each.name for each in store.reports.batches(9) if "tasks" in each.name]
        roles = {}
        for name in "ab":
            found = store.tasks.find(batch, name)
            assert found is not None
            roles[name] = [turn.role for turn in found.task.messages]
    assert roles == {"a": ["system", "user"], "b": ["user"]}, "no row gets a prompt that it does not ask for"


def test_a_task_submitted_without_a_key_is_marked_as_simulated(tmp_path: Path) -> None:
    output = run_script("submit", "Hello?", "--id", "mine", "--json", cwd=tmp_path)
    assert json.loads(output.out) == {"batch": "queue", "id": "mine", "status": "queued", "simulated": True}
    assert "simulated: no API key was found" in output.err
    proposed = run_script("suggest-weights", cwd=tmp_path)
    assert "simulated: no API key was found" in proposed.err


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (("--tier", "gold"), "'gold' is not one of 'auto', 'economy', 'standard', 'premium'"),
        (("--temperature", "3"), "--temperature must be at most 2, not 3"),
        (("--deadline", "0"), "'deadline' must be above 0 and finite, not 0"),
    ],
    ids=["tier", "temperature", "deadline"],
)
def test_submit_refuses_what_a_task_file_refuses(
    tmp_path: Path, options: tuple[str, str], output: str
) -> None:
    refused = run_script("submit", "Hello?", *options, cwd=tmp_path)
    assert refused.process.returncode == 2 and output in refused.err, refused.err


def test_a_task_that_is_not_started_in_time_expires_at_its_deadline(
    tmp_path: Path, live: dict[str, str]
) -> None:
    queued = run_script("submit", "Hello?", "--deadline", "0.001", cwd=tmp_path, env=live)
    assert queued.process.returncode == 0, queued.err
    run_script("--once", "--yes", cwd=tmp_path, env=live)
    output = json.loads(run_script("status", "--json", cwd=tmp_path, env=live).out)
    assert output["tasks"]["expired"] == 1


def test_the_version_is_printed_before_anything_is_read(tmp_path: Path) -> None:
    output = run_script("--version", "--config", "nowhere.toml", cwd=tmp_path)
    assert output.process.returncode == 0 and output.out == f"LLM agent orchestrator {version()}\n"


def test_help_explains_every_option_and_every_default() -> None:
    for name, command in {"": cli, **cli.commands}.items():
        for option in (each for each in command.params if isinstance(each, click.Option)):
            assert option.help, f"{name} {option.opts[-1]}"
            assert option.help.endswith("."), f"{name} {option.opts[-1]}"
            explained = option.is_flag or option.metavar or isinstance(option.type, click.Choice)
            assert explained, f"{name} {option.opts[-1]} does not say what it takes"


def test_status_of_a_state_in_which_nothing_has_run(tmp_path: Path) -> None:
    output = run_script("status", cwd=tmp_path)
    assert output.process.returncode == 0
    assert "no orchestrator has run on this state yet" in output.out and "tasks: none yet" in output.out
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"


def test_a_second_server_on_the_same_state_is_refused_in_one_line(
    tmp_path: Path, live: dict[str, str]
) -> None:
    with Script(cwd=tmp_path, env=live) as server:
        server.wait_for("serving the queue")
        while not json.loads(run_script("status", "--json", cwd=tmp_path, env=live).out)["running"]:
            assert server.process.poll() is None, server.err
        second = run_script(cwd=tmp_path, env=live)
        server.terminate()
        assert server.wait() == 0, server.err
    assert second.process.returncode == 3 and "Traceback" not in second.err
    assert "error: another orchestrator already serves this state" in second.err
    assert "serving the queue" not in second.err, "it never was"


def test_submit_prints_the_command_that_serves_the_same_state(tmp_path: Path, live: dict[str, str]) -> None:
    (tmp_path / "mine.toml").write_text("[pool]\nprefetch_limit = 5\n")
    given = ("--config", "mine.toml", "--state-dir", "a folder", "--simulate")
    queued = run_script("submit", "Hello?", *given, cwd=tmp_path, env=live)
    output = queued.err.partition("start one with: ")[2].strip()
    assert output == f"{PROGRAM} --config mine.toml --state-dir 'a folder' --simulate"
    served = run_script(*shlex.split(output)[2:], "--once", cwd=tmp_path, env=live)
    assert served.process.returncode == 0 and "served 1 task" in served.err


# ------------------------------------------------------------------ another Python


@pytest.mark.parametrize("command", [("real_agent_orchestrator.py", "status"), ("web_server.py",)], ids=str)
def test_a_python_without_the_packages_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    bare = [sys.executable, "-S", str(ROOT / command[0]), *command[1:]]  # -S: no site-packages
    done = subprocess.run(bare, cwd=tmp_path, env=child_environment(), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "is not installed in this Python" in done.stderr
    assert f"use `make run`, or `.venv/bin/python {command[0]}`" in done.stderr


@pytest.mark.parametrize("name", ["src.cli.nowhere", "sqlalchemy.nowhere", "nowhere", None], ids=str)
def test_any_other_missing_module_keeps_its_traceback(name: str | None) -> None:
    exit_if_not_installed(ModuleNotFoundError("No module", name=name))


# ------------------------------------------------------------------ check and config


@pytest.fixture
def picky() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start({"providers": {"openai": {"keys": ["the-right-one"]}}}) as simulator:
        yield simulator


def test_check_passes_if_everything_works(tmp_path: Path, live: dict[str, str]) -> None:
    done = run_script("check", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.out
    assert re.search(r"^ok +openai +reachable, 3 models, among them gpt-", done.out, re.M)
    for line in (
        "key: OPENAI_API_KEY (environment)",
        "proxy: none, it is on this machine",
        "limits: none configured or learned yet",
    ):
        assert re.search(rf"^- +{re.escape(line)}$", done.out, re.M), done.out
    assert re.search(r"^- +address: http://127\.0\.0\.1:\d+/v1 \(OPENAI_BASE_URL\)$", done.out, re.M)
    assert "no key; set ANTHROPIC_API_KEY" in done.out


def test_check_fails_if_a_server_offers_none_of_the_models(tmp_path: Path, live: dict[str, str]) -> None:
    models = '[providers.openai]\nmodels = { economy = "a", standard = "b", premium = "b" }\n'
    (tmp_path / "mine.toml").write_text(models)
    done = run_script("check", "--config", "mine.toml", cwd=tmp_path, env=live)
    assert done.process.returncode == 2
    line = r"^wrong +openai +reachable, but offers none of the configured models \(a, b\)$"
    assert re.search(line, done.out, re.M), done.out


@pytest.mark.parametrize("port", ["abc", "-1", "65536", "5000.0", "²"])
@pytest.mark.parametrize("script", ["real_agent_orchestrator.py", "web_server.py"])
def test_a_wrong_port_is_refused_before_anything_starts(tmp_path: Path, script: str, port: str) -> None:
    arguments = ["--pages", "--once"] if script.startswith("real") else []
    done = run_script(*arguments, cwd=tmp_path, script=ROOT / script, env={"PORT": port})
    assert done.process.returncode == 2
    assert f"PORT must be a number from 0 to 65535, not '{port}'" in done.err
    assert not (tmp_path / "state").exists()


def test_keys_of_disabled_providers_are_the_reason_for_the_simulator(
    tmp_path: Path, live: dict[str, str]
) -> None:
    (tmp_path / "mine.toml").write_text("[providers.openai]\nenabled = false\n")
    done = run_script("status", "--config", "mine.toml", cwd=tmp_path, env=live)
    planned = run_script("plan", "-", "--config", "mine.toml", cwd=tmp_path, env=live, stdin="Hi\n")
    assert done.process.returncode == planned.process.returncode == 0
    reason = "the providers that have a key are disabled: openai (OPENAI_API_KEY (environment))"
    assert reason in planned.err and "no API key was found" not in planned.err


def test_plan_and_summary_name_the_successor_of_a_retired_model(tmp_path: Path, live: dict[str, str]) -> None:
    (tmp_path / "t.txt").write_text("Hi\nHo\n")
    line = "2 tasks name gpt-4, which is retired; gpt-6.1-terra is called instead"
    planned = run_script("plan", "t.txt", "--model", "gpt-4", cwd=tmp_path, env=live)
    assert line in planned.out
    done = run_script("run", "t.txt", "--model", "gpt-4", cwd=tmp_path, env=live)
    assert f"plan: {line}" in done.err and line in done.out
    output = run_script("run", "t.txt", "--model", "gpt-4", "-o", "2.jsonl", "--json", cwd=tmp_path, env=live)
    summary = json.loads(output.out.splitlines()[-1])["summary"]
    retired = {"named": "gpt-4", "called": "gpt-6.1-terra", "tasks": 2, "retired": True}
    assert summary["substitutions"] == [retired]


def test_check_reports_a_bad_key_in_one_line(tmp_path: Path, picky: SimulatorProcess) -> None:
    done = run_script("check", cwd=tmp_path, env=live_environment(picky.base_urls))
    assert done.process.returncode == 2 and "Traceback" not in done.err
    assert re.search(
        r"^wrong +openai +openai rejected OPENAI_API_KEY \(401 invalid_api_key\)$", done.out, re.M
    )


def test_check_shows_limits_and_proxy(tmp_path: Path, live: dict[str, str]) -> None:
    (tmp_path / "mine.toml").write_text(
        "[providers.openai.limits]\nrequests_per_minute = 1200\ntokens_per_minute = 5000\n"
    )
    env = {**live, "OPENAI_BASE_URL": "http://192.0.2.1/v1", "PORT": "70000"}
    env |= {"HTTP_PROXY": "http://me:secret@127.0.0.1:9", "NO_PROXY": "elsewhere"}
    done = run_script("check", "--config", "mine.toml", cwd=tmp_path, env=env)
    assert done.process.returncode == 2 and "secret" not in done.out + done.err
    assert "proxy: http://***@127.0.0.1:9" in done.out and re.search(r"^wrong openai", done.out, re.M)
    assert "limits: 1,200 requests/min, 5,000 tokens/min (configured)" in done.out
    assert "PORT must be a number from 0 to 65535, not '70000'" in done.out


def test_probable_mistakes_are_warnings_of_check_and_at_the_start(
    tmp_path: Path, live: dict[str, str]
) -> None:
    (tmp_path / "mine.toml").write_text(
        '[providers.openai.model_limits."gpt-6.1-soll"]\nrequests_per_minute = 600\n'
    )
    checked = run_script("check", "--config", "mine.toml", cwd=tmp_path, env=live)
    served = run_script("--once", "--config", "mine.toml", cwd=tmp_path, env=live)
    assert (checked.process.returncode, served.process.returncode) == (0, 0)
    assert re.search(r"^- +warning +providers\.openai\..*did you mean 'gpt-6\.1-sol'\?$", checked.out, re.M)
    assert re.search(r"^warning: providers\.openai\..*did you mean 'gpt-6\.1-sol'\?$", served.err, re.M)


def test_config_masks_secrets_and_names_variables_without_effect(tmp_path: Path) -> None:
    env = {
        "OPENAI_API_KEY": "sk-0123456789abcdef",
        "ALERT_WEBHOOK_URL": "https://hooks.example/services/T0/B0/verysecret",
        "ORCHESTRATOR_TOKEN": "geheim",
        "ORCHESTRATOR_STATEDIR": "elsewhere",
    }
    done = run_script("config", cwd=tmp_path, env=env)
    assert "key of openai: set (from the environment), OPENAI_API_KEY\n" in done.out
    assert "cdef" not in done.out, "not even how it ends"
    assert "ALERT_WEBHOOK_URL = ***  # environment" in done.out and "ORCHESTRATOR_TOKEN = ***" in done.out
    assert "ORCHESTRATOR_STATEDIR has no effect; did you mean ORCHESTRATOR_STATE_DIR?" in done.out
    assert "0123456789" not in done.out and "hooks.example" not in done.out and "geheim" not in done.out


def test_an_unknown_setting_comes_with_the_nearest_known_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[pool]\nprefetch_limi = 1\n[routing]\npreferred_wait = 3\n")
    done = run_script("config", "--config", "mine.toml", cwd=tmp_path)
    assert done.process.returncode == 2 and done.err.count("\n") == 1
    assert "unknown setting 'pool.prefetch_limi'; did you mean 'prefetch_limit'?" in done.err
    assert "unknown setting 'routing.preferred_wait'; did you mean 'preferred_wait_s'?" in done.err


def test_an_invalid_address_is_one_line_without_a_password(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[providers.openai]\nbase_url = "ftp://geheim@host/v1"\n')
    env = {"OPENAI_API_KEY": "test-key-of-nobody"}
    database = {"DATABASE_URL": "postgresql://me:geheim@host:abc/tasks"}
    for done in (
        run_script("submit", "Hi", cwd=tmp_path, env={**env, **database}),
        run_script("submit", "Hi", "--config", "mine.toml", cwd=tmp_path, env=env),
    ):
        assert done.process.returncode == 2 and done.err.count("\n") == 1, done.err
        assert done.err.startswith("error: ") and "geheim" not in done.out + done.err


def test_config_shows_the_source_of_each_value(tmp_path: Path) -> None:
    mark = "\ufeff"  # as some editors write it
    (tmp_path / "mine.toml").write_text(f"{mark}[providers.openai]\nweight = 0.9\n", encoding="utf-8")
    env = {"DATABASE_URL": "postgresql://me:secret@localhost/tasks"}
    done = run_script("config", "--config", "mine.toml", "--state-dir", "elsewhere", cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    assert "providers.openai.weight = 0.9  # mine.toml" in done.out
    assert "providers.gemini.weight = 0.3  # orchestrator.toml" in done.out
    assert 'database_url = "postgresql://me:***@localhost/tasks"  # DATABASE_URL' in done.out
    assert 'elsewhere"  # --state-dir' in done.out
    assert "secret" not in done.out


# ------------------------------------------------------------------ the terminal


@pytest.mark.parametrize("no_color", [False, True], ids=["colour", "NO_COLOR"])
def test_progress_is_drawn_on_a_terminal_and_obeys_no_color(
    tmp_path: Path, live: dict[str, str], no_color: bool
) -> None:
    (tmp_path / "tasks.txt").write_text("".join(f"Question {n}?\n" for n in range(40)))
    environ = {**live, **({"NO_COLOR": "1"} if no_color else {})}
    with Terminal("run", "tasks.txt", cwd=tmp_path, env=environ, has_keyboard=False) as terminal:
        assert terminal.wait() == 0, terminal.err
    drawn = terminal.err
    assert "of 40 done" in drawn and "in flight" in drawn
    assert not re.search(r"[━╸╺][^\n]*of 40 done", drawn), "the bar has a line of its own"
    coloured = re.findall(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", drawn)
    assert bool(coloured) != no_color
    assert "40 of 40 tasks answered" in terminal.out and "\x1b" not in terminal.out


def test_importing_the_script_costs_little_and_gives_both_classes() -> None:
    code = (
        "import sys, real_agent_orchestrator as r; heavy = {'sqlalchemy', 'anthropic', 'openai', 'rich'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "from real_agent_orchestrator import ProviderLoadBalancer, RealAgent;"
        "from src.core.orchestrator import ProviderLoadBalancer as same;"
        "assert ProviderLoadBalancer is same and RealAgent.__name__ == 'RealAgent'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ORCHESTRATOR.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_table_of_the_examples_stays_whole_while_the_server_continues(
    tmp_path: Path,
) -> None:
    """What is drawn in place stands aside while the table is printed: nothing of it is drawn over."""
    with Terminal(
        "--examples", cwd=tmp_path, columns=80, has_keyboard=False, prints_to_pipe=False
    ) as terminal:
        terminal.wait_for("results: ")
        terminal.terminate()
        assert terminal.wait() == 0, terminal.err
    plain = without_control_sequences(terminal.err)
    progress, table = re.split(r"^models *$", plain, maxsplit=1, flags=re.MULTILINE)
    assert "of 60 done" in progress and "━" not in table
    header, *rows = table.partition("\nagents")[0].strip().splitlines()
    assert header.startswith("model ") and header.rstrip().endswith("cost"), plain
    assert len(rows) >= 4 and all(re.search(r"\$\d+\.\d+ *$", row) for row in rows), plain
