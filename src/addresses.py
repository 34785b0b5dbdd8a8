"""Addresses that may hold a secret: a password or a token before the @, a key in the query."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """One taken apart, each part with its punctuation: together they are the text as it came.

    What stands before the last @ counts as secret, wherever that is: a password with a slash in it, not
    escaped, must not pass for a path.
    """

    scheme: str
    userinfo: str
    place: str
    query: str


def taken_apart(url: str) -> Address:
    """`(scheme, user and password with their @, place, query)` of an address."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    userinfo, at, place = rest.rpartition("@")
    end = min((place.index(each) for each in "?#" if each in place), default=len(place))
    return Address(scheme + mark, userinfo + at, place[:end], place[end:])


def without_secrets(url: str) -> tuple[str, str]:
    """The address alone, and what was taken out of it."""
    address = taken_apart(url)
    return address.scheme + address.place, address.userinfo + address.query


def masked_address(url: str) -> str:
    """The address as it may be shown. Only a database keeps its user: elsewhere that may be a token."""
    scheme, userinfo, place, _ = taken_apart(url)
    user, colon, _ = userinfo.removesuffix("@").partition(":")
    if not userinfo:
        return scheme + place
    if not scheme.startswith("postgres"):
        return f"{scheme}***@{place}"
    return f"{scheme}{user}{':***' if colon else ''}@{place}"
