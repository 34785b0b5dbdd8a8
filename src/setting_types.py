"""What the sections of `settings.py` are made of: base class, bounds, names, time zones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .errors import hint, nearest
from .providers.api_formats import API_FORMATS

KEY_CHARS = 16  # a word of so many letters and digits is a key, not a part of a name
MAX_NAME_CHARS = 200
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

Positive = Field(gt=0, allow_inf_nan=False)
NotNegative = Field(ge=0, allow_inf_nan=False)
Fraction = Field(ge=0, le=1, allow_inf_nan=False)
Percent = Annotated[int, Field(ge=1, le=100)]


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_api_format(name: str) -> str:
    if name not in API_FORMATS:
        raise ValueError(f"no API format of this name; {hint(name, API_FORMATS)}")
    return name


ApiFormatName = Annotated[str, AfterValidator(_known_api_format)]


def _is_name(name: str) -> str:
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable() or name != name.strip() or "," in name:
        raise ValueError(f"must be 1 to {MAX_NAME_CHARS} characters, without commas and line ends")
    return name


def _is_provider(name: str) -> str:
    if "/" in name:
        raise ValueError("must not contain '/': a client of the gateway asks for PROVIDER/MODEL")
    return name


Name = Annotated[str, AfterValidator(_is_name)]
ProviderName = Annotated[Name, AfterValidator(_is_provider)]


def base_url_of(text: str) -> str:
    """The address without white space around it and slashes at its end. Raises ValueError for one that no
    request can be sent to.
    """
    url = text.strip()
    try:
        parts = urlsplit(url)
        is_usable = bool(parts.hostname) and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # half of an IPv6 address, or no port
        is_usable = False
    if not is_usable or not url.startswith(("http://", "https://")):
        raise ValueError('must be an address that starts with http:// or https://, as "https://host/v1" does')
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(base_url_of)]


def is_variable(name: object) -> bool:
    """Whether this can name an environment variable, and is not a key that was put in its place."""
    return isinstance(name, str) and bool(_VARIABLE.fullmatch(name)) and not looks_like_key(name)


def looks_like_key(text: str) -> bool:
    """Whether it has a word as only keys have them."""
    words = re.findall(r"[A-Za-z0-9]+", text)
    return any(len(word) >= KEY_CHARS and any(c.isdigit() for c in word) for word in words)


def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name. Raises ValueError with the reason and the nearest known name."""
    if name.upper() == "UTC":
        return UTC  # needs no time zone data, which a bare machine may lack
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        near = nearest(name, sorted(available_timezones()))
        meant = f"did you mean {near!r}?" if near else "allowed is an IANA name: Europe/Berlin"
        raise ValueError(f"is not a known time zone; {meant}") from error


def section_in(annotation: Any) -> tuple[type[Section] | None, bool]:
    """`(section class, many)` of a field. None: it holds no section; `many`: a table or list of them."""
    many = get_origin(annotation) in (Mapping, tuple)
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, many
    inside = (section_in(each)[0] for each in get_args(annotation))
    return next((section for section in inside if section is not None), None), many


def known_keys(root: type[Section], loc: tuple[str | int, ...]) -> list[str]:
    """The settings of the section at `loc` below `root`; for a table of sections, those of each of them."""
    section, many = root, False
    for part in loc:
        if many:  # the name or the number of one of them
            many = False
            continue
        inner, many = section_in(section.model_fields[str(part)].annotation)
        section = inner or section
    return list(section.model_fields)
