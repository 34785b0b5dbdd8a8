"""`token`: a new token, and its section of a tokens file."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime, timedelta

import click

from ..tokens import TOKENS_FILE, Role, file_section
from .session import Options
from .shared_options import duration_option


def token(options: Options, name: str, *, role: Role, expires_in: str | None) -> int:
    """Print the section on standard output and the token on standard error. Raises OrchestratorError."""
    secret = secrets.token_urlsafe(32)
    expires = None
    if expires_in is not None:
        expires = datetime.now(UTC) + timedelta(seconds=duration_option(expires_in, "--expires-in"))
    click.echo(file_section(name, secret, role, expires))
    if sys.stdout.isatty():
        options.console.note(f"append this section to the file that {TOKENS_FILE} names")
    options.console.note(f"the token of {name}, which is shown only now: {secret}")
    return 0
