"""`config`: each setting with its value and source. Keys and tokens are masked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..addresses import masked_address
from ..bootstrap import Setup
from ..config import DEFAULTS_FILE
from ..errors import nearest
from ..masking import MASK
from ..toml_text import parse_toml
from .console import rich_console
from .session import Options, prepare

PLAIN_VARIABLES = (
    "ORCHESTRATOR_CONFIG",
    "ORCHESTRATOR_TOKENS_FILE",
    "ORCHESTRATOR_HOSTS",
    "ORCHESTRATOR_TRUSTED_PROXIES",
    "PORT",
    "NO_COLOR",
)
SECRET_VARIABLES = ("ALERT_WEBHOOK_URL", "ORCHESTRATOR_TOKEN", "ORCHESTRATOR_TOKENS")
FROM_ENVIRONMENT = {
    "state_dir": "ORCHESTRATOR_STATE_DIR",
    "database_url": "DATABASE_URL",
    "gateway.port": "ORCHESTRATOR_GATEWAY_PORT",
}


def show_config(options: Options) -> int:
    """Print every setting as `name = value  # source`. Returns the exit code."""
    setup = prepare(options, calls_providers=False)
    user_file = options.config or setup.environ.get("ORCHESTRATOR_CONFIG")
    own = _settings_of(Path(user_file)) if user_file else {}
    screen = rich_console(stderr=False)
    for name, value in _flat(setup.settings.model_dump(mode="json")):
        source = _source(name, own, str(user_file), options, setup.environ)
        screen.print(f"{name} = {_shown(value)}  # {source}", soft_wrap=True)
    for line in (*_access_lines(setup), *_environment_lines(setup.environ)):
        screen.print(line, soft_wrap=True)
    return 0


def _access_lines(setup: Setup) -> Iterator[str]:
    """Whether each provider has a key, and its address if the environment sets it."""
    for access in setup.access.values():
        variables = " or ".join(access.config.api_key_env) or "none needed"
        source = access.key_source.partition(" ")[0]
        key = f"set (from {_place(source)}), {source}" if source else f"not set, {variables}"
        yield f"key of {access.name}: {key}"
        if access.base_url != access.config.base_url:
            address = masked_address(access.base_url)
            yield f"base URL of {access.name}: {address}  # {access.config.base_url_env}"


def _environment_lines(environ: Mapping[str, str]) -> Iterator[str]:
    """The other variables that are read, and those with a similar name that are not."""
    for name in PLAIN_VARIABLES:
        if environ.get(name):
            yield f"{name} = {masked_address(environ[name])}  # {_where(name)}"
    for name in SECRET_VARIABLES:
        if environ.get(name):
            yield f"{name} = {MASK}  # {_where(name)}"
    known = {*PLAIN_VARIABLES, *SECRET_VARIABLES, *FROM_ENVIRONMENT.values()}
    for name in sorted(environ):
        if name.startswith("ORCHESTRATOR_") and name not in known:
            close = nearest(name, known)
            yield f"{name} has no effect" + (f"; did you mean {close}?" if close else "")


def _where(name: str) -> str:
    return "environment" if name in os.environ else ".env"


def _place(name: str) -> str:
    return "the environment" if name in os.environ else ".env"


def _settings_of(path: Path) -> dict[str, Any]:
    return dict(_flat(parse_toml(path.read_bytes(), str(path))))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"a": {"b": 1}}` is `("a.b", 1)`; a list of tables is numbered."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for index, row in enumerate(value):
                yield from _flat(row, f"{name}[{index}].")
        else:
            yield name, value


def _source(
    name: str, own: Mapping[str, Any], user_file: str, options: Options, environ: Mapping[str, str]
) -> str:
    if name == "state_dir" and options.state_dir is not None:
        return "--state-dir"
    if environ.get(variable := FROM_ENVIRONMENT.get(name, "")):
        return variable if variable in os.environ else f"{variable} (.env)"
    return user_file if name in own else DEFAULTS_FILE.name


def _shown(value: Any) -> str:
    """The value as in TOML, without the password of a database URL."""
    if value is None:
        return "(unset)"
    return json.dumps(masked_address(value) if isinstance(value, str) and "://" in value else value)
