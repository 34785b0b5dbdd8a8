"""`config`: each setting, its value, and where that comes from. Keys and passwords are masked."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import DEFAULTS_FILE
from .progress import console
from .setup import Options, prepare

FROM_ENVIRONMENT = {"state_dir": "ORCHESTRATOR_STATE_DIR", "database_url": "DATABASE_URL"}


def show_config(options: Options) -> int:
    """Print every setting as `name = value  # source`. The exit code."""
    setup = prepare(options)
    user_file = options.config or setup.environ.get("ORCHESTRATOR_CONFIG")
    own = _settings_of(Path(user_file)) if user_file else {}
    screen = console(stderr=False)
    for name, value in _flat(setup.settings.model_dump(mode="json")):
        source = _source(name, own, str(user_file), options, setup.environ)
        screen.print(f"{name} = {_masked(value)}  # {source}", markup=False, soft_wrap=True)
    for access in setup.access.values():
        key = f"set ({access.key_source})" if access.key_source else "not set"
        variables = " or ".join(access.row.api_key_env) or "none needed"
        screen.print(f"key of {access.name}: {key}, {variables}", markup=False, soft_wrap=True)
        if access.base_url != access.row.base_url:
            screen.print(f"base URL of {access.name}: {access.base_url}  # {access.row.base_url_env}")
    return 0


def _settings_of(path: Path) -> dict[str, Any]:
    return dict(_flat(tomllib.loads(path.read_text(encoding="utf-8"))))


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
    if environ.get(FROM_ENVIRONMENT.get(name, "")):
        return FROM_ENVIRONMENT[name]
    return user_file if name in own else DEFAULTS_FILE.name


def _masked(value: Any) -> str:
    """As TOML would have it, without the password that a database URL may hold."""
    if isinstance(value, str):
        return '"' + re.sub(r"(://[^:/@]*:)[^@/]*@", r"\1***@", value) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    return "(unset)" if value is None else str(value)
