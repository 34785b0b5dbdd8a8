"""The stylesheet keeps to its scale of sizes, and its colours can be read and told apart."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from tests.helpers import ROOT

STYLE = (ROOT / "static" / "style.css").read_text(encoding="utf-8")
TEXTS = ("ink", "soft", "link", "good", "warn", "bad", "busy")
STATES = ("good", "warn", "bad")
SERIES = ("s0", "s1", "s2", "s3", "s4", "s5")


def colours() -> dict[str, dict[str, str]]:
    """The colours by scheme."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
        for part in STYLE.split("prefers-color-scheme")[:2]
    )
    return {"light": light, "dark": light | dark}


def channels(colour: str) -> list[float]:
    """Linear red, green and blue, 0 to 1."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]


def contrast(a: str, b: str) -> float:
    """The ratio of WCAG, 1 to 21."""
    light, dark = sorted(
        (sum(f * v for f, v in zip((0.2126, 0.7152, 0.0722), channels(c), strict=True)) for c in (a, b)),
        reverse=True,
    )
    return (light + 0.05) / (dark + 0.05)


def oklab(colour: str) -> list[float]:
    r, g, b = channels(colour)
    lms = [
        (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3),
        (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3),
        (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3),
    ]
    matrix = (
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    )
    return [sum(f * v for f, v in zip(row, lms, strict=True)) for row in matrix]


def distance(a: str, b: str) -> float:
    return sum((x - y) ** 2 for x, y in zip(oklab(a), oklab(b), strict=True)) ** 0.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str) -> None:
    found = colours()[scheme]
    for name in TEXTS:
        for ground in ("card", "page", "hover"):
            assert contrast(found[name], found[ground]) >= 4.5, f"{name} on {ground}"
    for state in (*STATES, "busy"):
        assert contrast(found[state], found[f"{state}-soft"]) >= 4.5, state
    assert contrast(found["on-accent"], found["accent"]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_series_are_seen_and_told_apart_from_each_other_and_from_states(scheme: str) -> None:
    found = colours()[scheme]
    for name in SERIES:
        assert contrast(found[name], found["card"]) >= 3, name
    for a, b in (*combinations(SERIES, 2), *((s, t) for s in SERIES for t in STATES)):
        assert distance(found[a], found[b]) >= 0.09, f"{a} and {b}"


def test_type_sizes_and_distances_come_from_the_scale() -> None:
    sizes = dict(re.findall(r"--t(\d+): ([\d.]+)rem", STYLE))
    assert {int(name): float(rem) * 16 for name, rem in sizes.items()} == {n: n for n in (12, 14, 16, 20, 32)}
    gaps = dict(re.findall(r"--g(\d+): ([\d.]+)rem", STYLE))
    assert {int(name): float(rem) * 16 for name, rem in gaps.items()} == {n: n for n in (4, 8, 16, 32)}
    rules = STYLE[STYLE.index("- base") :]
    used = re.findall(r"font-size: ([^;]+);", rules)
    assert {size for size in used if not size.startswith("var(--t")} <= {"0.92em"}  # code, in any size
    spaced = re.findall(r"(?:^|[ {])(?:margin|padding|gap)(?:-\w+)?: ([^;]+);", rules, flags=re.M)
    parts = {part for each in spaced for part in re.sub(r"calc\([^;]*\)", "", each).split()}
    assert {p for p in parts if not p.startswith("var(--g")} <= {"0", "auto", "0.4em"}
