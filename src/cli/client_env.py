"""`env`: the settings of a client, as lines for a shell."""

from __future__ import annotations

import shlex

import click

from ..errors import InputError
from ..tokens import are_set
from .session import Options, prepare

OPENAI, ANTHROPIC, CLAUDE_CODE = CLIENTS = ("openai", "anthropic", "claude-code")
ANY_KEY = "any"  # clients refuse to start without a key; without tokens the gateway ignores it


def client_env(options: Options, client: str) -> int:
    """Print export lines for `client`; returns the exit code. Raises InputError without a fixed port."""
    setup = prepare(options, calls_providers=False)
    url = setup.settings.gateway.url
    if not url:
        raise InputError("[gateway] port is 0, any free one; the server prints its address when it starts")
    key = ANY_KEY
    if are_set(setup.environ):
        key = "YOUR_TOKEN"  # never the token itself: what is printed may be logged
    for name, value in _variables(client, url, key).items():
        click.echo(f"export {name}={shlex.quote(value)}")
    return 0


def _variables(client: str, url: str, key: str) -> dict[str, str]:
    if client == OPENAI:
        return {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key}
    if client == ANTHROPIC:
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key}
    return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": key}
