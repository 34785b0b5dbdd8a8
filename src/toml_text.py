"""Files of settings: TOML, with or without the byte order mark that some editors write."""

from __future__ import annotations

import tomllib
from typing import Any

from .errors import ConfigError, not_utf_8


def parse_toml(content: bytes, where: str) -> dict[str, Any]:
    """The tables of a file. Raises ConfigError with `where` and the reason."""
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(not_utf_8(error), where=where) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML: {error}", where=where) from error
    except ValueError as error:
        raise ConfigError("is not valid TOML: a number has too many digits", where=where) from error
    except RecursionError as error:
        raise ConfigError("is not valid TOML: nested too deeply", where=where) from error
