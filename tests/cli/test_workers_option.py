"""`--workers` and `[workers]`: what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.bootstrap import Setup, StartOptions, load
from src.config import load_settings
from src.errors import ConfigError

POSTGRESQL = "postgresql://test@127.0.0.1/test"


def setup_with(monkeypatch: pytest.MonkeyPatch, database_url: str = "") -> Setup:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    if database_url:
        monkeypatch.setenv("DATABASE_URL", database_url)
    return load(StartOptions(), print)


@pytest.mark.parametrize("given", ["ray", "ray:", "ray:host", "dask:1.2.3.4:5", "ray:a b:1", "", "RAY:auto"])
def test_other_workers_are_refused_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--workers: unknown workers .*allowed: local, ray:auto, ray:HOST:PORT"
    ):
        setup_with(monkeypatch).with_workers(given)


@pytest.mark.parametrize(
    "given", ["ray:auto", "ray:10.0.0.7:6379", "ray:ray-head.default.svc:6379", "ray:[::1]:6379"]
)
def test_ray_needs_postgresql(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    with pytest.raises(ConfigError, match="needs a PostgreSQL database"):
        setup_with(monkeypatch).with_workers(given)
    changed = setup_with(monkeypatch, POSTGRESQL).with_workers(given)
    assert changed.settings.workers.address == given.removeprefix("ray:")


def test_no_option_keeps_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = setup_with(monkeypatch)
    assert setup.with_workers(None) is setup
    assert setup.with_workers("local").settings.workers.address == ""


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('run_on = "ray:auto"', "workers.run_on: 'ray:auto' needs a PostgreSQL database"),
        ('run_on = "celery"', "workers.run_on = 'celery': must be local, ray:auto or ray:HOST:PORT"),
    ],
)
def test_a_configuration_is_checked_alike(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "own.toml").write_text(f"[workers]\n{line}\n")
    with pytest.raises(ConfigError, match=problem.replace(".", r"\.")):
        load_settings(tmp_path / "own.toml", {})
