"""Settings: the defaults of `orchestrator.toml`, a user's file over them, the environment over both.

`load_settings()` is the only way in. Every value is validated here, once; all other code trusts it.
The rows themselves are in `settings.py`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from .addresses import without_secrets
from .errors import ConfigError, hint, nearest, unreadable
from .package import RESOURCES
from .private import read_private
from .setting_types import base_url_of, known_keys, looks_like_key
from .settings import MAX_PROBLEMS_SHOWN, ProviderConfig, Settings
from .small_files import read_small
from .toml_text import parse_toml

log = logging.getLogger(__name__)

DEFAULTS_FILE = RESOURCES / "orchestrator.toml"
CONFIG = "ORCHESTRATOR_CONFIG"
GATEWAY_PORT = "ORCHESTRATOR_GATEWAY_PORT"
OF_FILE = "_FILE"  # OPENAI_API_KEY_FILE names a file that holds OPENAI_API_KEY
_OF_PYDANTIC = re.compile(r"^Value error, |^(Input should be)")
SECRETS = ("key", "apikey", "token", "secret", "password")  # last words of names that no setting has
REPEATED_CHARS = 40  # a longer text is not repeated
MAY_HOLD_SECRETS = frozenset(["api_key_env", "base_url", "base_url_env", "database_url"])
RENAMED = {  # by section and old name; CHANGELOG.md lists them too
    ("pool", "attempts"): "max_attempts",
    ("pool", "claim_attempts"): "max_claims",
    ("pool", "window_tasks"): "prefetch_limit",
    ("pool", "drain_s"): "shutdown_grace_s",
    ("routing", "spill_after_s"): "preferred_wait_s",
    ("routing", "suspect_after_s"): "stall_timeout_s",
    ("routing", "refused_elsewhere"): "failover_on_refusal",
    ("routing", "max_share_of_slots"): "max_concurrency_share",
    ("breaker", "ramp_s"): "slow_start_s",
    ("breaker", "ramp_start"): "slow_start_min_share",
    ("caching", "hold_s"): "cache_writer_wait_s",
    ("providers", "wire"): "api_format",
    ("models", "wire"): "api_format",
}


@dataclass(frozen=True, slots=True)
class ProviderAccess:
    """How one provider is reached in this process. `key` never leaves it: its repr is masked."""

    name: str
    config: ProviderConfig
    base_url: str
    key: SecretStr
    key_source: str  # the variable's name and where it was found; empty without a key
    simulated: bool = False

    @property
    def variable(self) -> str:
        """The variable that holds the key; empty without a key, and in a simulation."""
        return "" if self.simulated else self.key_source.partition(" ")[0]

    @property
    def configured(self) -> bool:
        """Whether it can be called: it is enabled, and has a key where it needs one."""
        return self.config.enabled and (bool(self.key.get_secret_value()) or self.config.keyless)


def identity(access: ProviderAccess) -> tuple[str, str]:
    """`(address, fingerprint of the key)`, under which the learned limits of a provider are stored.

    Limits belong to the organisation of a key. A fingerprint distinguishes keys without storing them. A key
    in the address counts as one.
    """
    address, secret = without_secrets(access.base_url)
    return address, hashlib.sha256((access.key.get_secret_value() + secret).encode()).hexdigest()[:16]


def load_settings(path: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the defaults, `path` (or ORCHESTRATOR_CONFIG) over them, and validate. Raises ConfigError."""
    environ = os.environ if environ is None else environ
    merged = _read_toml(DEFAULTS_FILE)
    user_file = path or environ.get(CONFIG)
    where = str(DEFAULTS_FILE.name)
    if user_file:
        where = str(user_file)
        merged = _merge(merged, _read_toml(Path(user_file)))
    if url := environ.get("DATABASE_URL"):
        merged["database_url"] = url
    if state_dir := environ.get("ORCHESTRATOR_STATE_DIR"):
        merged["state_dir"] = state_dir
    if (port := port_in(environ, GATEWAY_PORT)) is not None:
        merged["gateway"] = _merge(merged["gateway"], {"port": port})
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise _explain(error, where, merged) from error


class Environment(dict[str, str]):
    """Variables, and which of them a `.env` has brought: `file` with this `content`."""

    def __init__(
        self,
        variables: Mapping[str, str],
        of_file: Collection[str] = (),
        file: Path | None = None,
        content: bytes = b"",
    ) -> None:
        super().__init__(variables)
        self.file, self.content = file, content
        self._of_file = frozenset(of_file)

    def is_of_file(self, name: str) -> bool:
        """Whether the variable `name` comes from `.env`."""
        return name in self._of_file


def read_environment(dotenv: Path | None = None) -> Environment:
    """The environment, with the variables of `.env` below it (a set variable always wins).

    `${NAME}` stays as it is written: what copies a key of the environment can send it anywhere.
    Raises ConfigError for a file that can't be read.
    """
    file = dotenv or Path.cwd() / ".env"
    try:
        content = b"" if file.is_dir() or not file.exists() else read_small(file)
        found = _variables_in(content.decode("utf-8-sig"), file)
    except (OSError, UnicodeDecodeError) as error:
        reason = unreadable(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(reason, where=str(file)) from error
    own = {name: value for name, value in found.items() if value and name not in os.environ}
    return Environment({**own, **os.environ}, own, file if content else None, content)


def _variables_in(text: str, file: Path) -> dict[str, str | None]:
    """The variables that the lines of `file` set."""
    from dotenv.parser import parse_stream

    lines = list(parse_stream(io.StringIO(text)))
    for number in (line.original.line for line in lines if line.error):
        log.warning("%s, line %d: not NAME=VALUE, so it is ignored", file, number)
    return {line.key: line.value for line in lines if line.key}


def chosen_port(environ: Mapping[str, str]) -> int | None:
    """The port that PORT names for the pages, None where it is unset. Raises ConfigError."""
    return port_in(environ, "PORT")


def port_in(environ: Mapping[str, str], name: str) -> int | None:
    """The port that the variable `name` holds, None where it is unset. Raises ConfigError."""
    wanted = environ.get(name, "").strip()
    if not wanted:
        return None
    if not (wanted.isascii() and wanted.isdigit()) or int(wanted) > 65535:
        raise ConfigError(f"{name} must be a number from 0 to 65535, not {wanted[:REPEATED_CHARS]!r}")
    return int(wanted)


def provider_access(settings: Settings, environ: Mapping[str, str]) -> dict[str, ProviderAccess]:
    """Each provider with its base URL and key as the environment gives them.

    Raises ConfigError for a file with a key that can't be read, or that others can, and for a key or an
    address that no request can carry.
    """
    access: dict[str, ProviderAccess] = {}
    for name, config in settings.providers.items():
        key, found = _key_of(config, environ)
        access[name] = ProviderAccess(name, config, _address_of(config, environ), SecretStr(key), found)
    return access


def _address_of(config: ProviderConfig, environ: Mapping[str, str]) -> str:
    given = environ.get(config.base_url_env, "").strip() if config.base_url_env else ""
    try:
        return base_url_of(given) if given else config.base_url
    except ValueError as error:
        raise ConfigError(str(error), where=config.base_url_env) from None


def _key_of(config: ProviderConfig, environ: Mapping[str, str]) -> tuple[str, str]:
    """The key, and where it was found; both empty without one."""
    of_file = environ.is_of_file if isinstance(environ, Environment) else lambda name: name not in os.environ
    for variable in config.api_key_env:
        key, file = environ.get(variable, "").strip(), environ.get(variable + OF_FILE, "").strip()
        if file and of_file(variable + OF_FILE):  # a stranger's .env must not send any file of yours anywhere
            problem = "belongs into the environment; .env may hold the key itself"
            raise ConfigError(problem, where=variable + OF_FILE)
        if key and file:
            raise ConfigError(f"{variable} and {variable}{OF_FILE} are both set; unset one of them")
        if key:
            _check_key(key, variable)
            return key, f"{variable} ({'.env' if of_file(variable) else 'environment'})"
        if file:
            return _key_in(Path(file)), f"{variable} ({file})"
    return "", ""


def _key_in(path: Path) -> str:
    try:
        key = read_private(path).decode().strip()
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", where=str(path)) from error
    _check_key(key, str(path))
    return key


def _check_key(key: str, where: str) -> None:
    """A header has to carry it: anything else would fail in each call."""
    if not (key and key.isascii() and key.isprintable()):
        raise ConfigError("must hold a key on one line of ASCII, and nothing else", where=where)


def renewed_access(
    access: Mapping[str, ProviderAccess], environ: Mapping[str, str]
) -> dict[str, ProviderAccess]:
    """The providers whose key has another value in `environ` than in `access`, with the new one.

    Addresses stay, and so does where each key is found: whether it may go there was decided at the start.
    Raises ConfigError if a key is gone, or is found elsewhere now.
    """
    renewed = {}
    for name, old in access.items():
        key, found = _key_of(old.config, environ) if old.key_source else ("", "")
        if found != old.key_source:
            where = f"is now read from {found}" if found else "is gone"
            problem = f"the key of {name} {where}, not {old.key_source}; restart to accept that"
            raise ConfigError(problem)
        if key != old.key.get_secret_value():
            renewed[name] = replace(old, key=SecretStr(key))
    return renewed


def simulated_access(settings: Settings, base_urls: Mapping[str, str]) -> dict[str, ProviderAccess]:
    """The same providers, served by the simulator at `base_urls`; a provider it does not serve has no key."""
    return {
        name: ProviderAccess(
            name,
            config,
            base_urls.get(name, config.base_url),
            SecretStr("simulated" if name in base_urls else ""),
            "simulator" if name in base_urls else "",
            simulated=True,
        )
        for name, config in settings.providers.items()
    }


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = read_small(path)
    except OSError as error:
        raise ConfigError(unreadable(error), where=str(path)) from error
    return parse_toml(content, str(path))


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: ValidationError, where: str, given: Mapping[str, Any]) -> ConfigError:
    """All unknown names, or else the first problem, as one line: what, where, what is allowed."""
    unknown = [each for each in error.errors() if each["type"] == "extra_forbidden"]
    if unknown:
        problems = (_unknown(each["loc"], each["input"]) for each in unknown[:MAX_PROBLEMS_SHOWN])
        return ConfigError("; ".join(problems), where=where)
    first = error.errors()[0]
    path = _path(first["loc"])
    message = _allowed(first["type"], first["msg"])
    if first["type"] == "missing":
        return ConfigError(_missing(first["loc"], given), where=where)
    if not path:
        return ConfigError(message, where=where)
    return ConfigError(f"{path}{_repeated(first['loc'], first['input'])}: {message}", where=where)


def _path(loc: tuple[str | int, ...]) -> str:
    """Where a setting stands, in one line. A name that is wrong itself belongs to the table around it."""
    shown = loc[:-2] if loc[-1:] == ("[key]",) else [part for part in loc if part != "constrained-float"]
    path = ".".join(str(part) for part in shown)
    return path if path.isprintable() else ascii(path)[1:-1]


def _allowed(kind: str, message: str) -> str:
    """What a setting may be, without the words of Python in pydantic's message."""
    if kind in ("dict_type", "model_type", "mapping_type"):
        return "must be a table"
    if kind in ("tuple_type", "path_type"):
        return "must be a list" if kind == "tuple_type" else "must be a path"
    return _OF_PYDANTIC.sub(lambda found: "must be" if found[1] else "", message)


def _missing(loc: tuple[str | int, ...], given: Mapping[str, Any]) -> str:
    """A missing setting; for a new provider also which known one was probably meant."""
    path = _path(loc)
    if loc[0] != "providers":
        return f"{path!r} is missing"
    formats = ' = "anthropic", "openai" or "gemini"' if loc[-1] == "api_format" else ""
    near = nearest(str(loc[1]), [name for name in given["providers"] if name != loc[1]])
    meant = f"; did you mean {near!r}?" if near else ""
    return f"new provider {loc[1]!r} needs {loc[-1]}{formats}{meant}"


def _unknown(loc: tuple[str | int, ...], value: object) -> str:
    """An unknown setting, with its new name or the nearest known one. Its value is never repeated."""
    path = _path(loc)
    if _is_secret(str(loc[-1]), value):
        return (
            f"{path!r}: don't put keys in this file; set the variable that api_key_env names, such as "
            "OPENAI_API_KEY, in the environment or .env"
        )
    if new := RENAMED.get((str(loc[0]), str(loc[-1]))):
        return f"unknown setting {path!r}; it is now called {new!r}"
    return f"unknown setting {path!r}; {hint(str(loc[-1]), known_keys(Settings, loc[:-1]))}"


def _is_secret(name: str, value: object) -> bool:
    """`openai_api_key = "..."` is one; `max_token = 5` is a slip of the pen."""
    last = name.lower().replace("-", "_").rpartition("_")[2]
    return last in SECRETS and not isinstance(value, bool | int | float)


def _repeated(loc: tuple[str | int, ...], value: object) -> str:
    """` = value` where that helps: no whole tables, and nothing that may be, or hold, a secret."""
    if isinstance(value, str):
        secret = looks_like_key(value) or not MAY_HOLD_SECRETS.isdisjoint(loc)
        return "" if secret or len(value) > REPEATED_CHARS else f" = {value!r}"
    return "" if isinstance(value, dict | list | tuple) else f" = {value!r}"
