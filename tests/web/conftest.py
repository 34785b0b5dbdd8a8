"""A filled store for every test, copied from one that is created once, and the application over it.

The application's clock stands at the moment when the store was filled.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from src.access import AccessPolicy
from src.core.clock import Clock
from src.core.store import Store
from src.web import create_app
from src.web.context import AppContext
from tests.helpers import VirtualClock
from tests.once import share_templates

from .filled import FilledState, fill, served
from .stack import Stack, running_stack

AppMaker = Callable[..., Flask]
MakeClient = Callable[..., FlaskClient]


@pytest.fixture(scope="session")
def _original(tmp_path_factory: pytest.TempPathFactory) -> FilledState:
    return fill(tmp_path_factory.mktemp("filled"), Clock().now())


def copy_of(original: FilledState, folder: Path) -> FilledState:
    shutil.copytree(original.database.parent, folder)
    settings = original.settings.model_copy(update={"state_dir": folder})
    return replace(original, settings=settings, database=folder / original.database.name)


@pytest.fixture
def filled(_original: FilledState, tmp_path: Path) -> FilledState:
    return copy_of(_original, tmp_path / "state")


@pytest.fixture
def store(filled: FilledState) -> Iterator[Store]:
    with served(filled.database), Store.open(filled.database, simulated=True) as opened:
        yield opened


@pytest.fixture
def make_app(filled: FilledState, store: Store) -> AppMaker:
    def make(environ: Mapping[str, str] | None = None, host: str = "127.0.0.1", **options: Any) -> Flask:
        access, clock = AccessPolicy.from_environment(host, environ or {}), VirtualClock(filled.now)
        app = create_app(
            AppContext(filled.settings, store, simulated=True, access=access, clock=clock, **options)
        )
        share_templates(app)
        return app

    return make


@pytest.fixture(scope="module")
def refusing(_original: FilledState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeClient]:
    """Clients of an application that a whole file shares, for requests that change nothing."""
    filled = copy_of(_original, tmp_path_factory.mktemp("shared") / "state")
    clock = VirtualClock(filled.now)
    with served(filled.database), Store.open(filled.database, simulated=True) as opened:
        apps: dict[str, Flask] = {}

        def make(token: str = "") -> FlaskClient:
            access = AccessPolicy.from_environment("127.0.0.1", {"ORCHESTRATOR_TOKEN": token})
            if token not in apps:
                apps[token] = create_app(
                    AppContext(filled.settings, opened, simulated=True, access=access, clock=clock)
                )
                share_templates(apps[token])
            apps[token].extensions["orchestrator"].access = access  # without delays yet
            return apps[token].test_client()

        yield make


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with running_stack(tmp_path) as running:
        yield running


@pytest.fixture
def app(make_app: AppMaker) -> Flask:
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def csrf_of(client: FlaskClient, path: str = "/new") -> str:
    """The CSRF token in the forms of this client's session."""
    found = re.search(r'name="csrf" value="([^"]+)"', client.get(path).text)
    assert found, f"no form on {path}"
    return found[1]


def context_of(client: FlaskClient) -> AppContext:
    found = client.application.extensions["orchestrator"]
    assert isinstance(found, AppContext)
    return found
