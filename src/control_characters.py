"""Text of others on a terminal: models and providers may answer anything, and a terminal obeys what it reads.

An escape sequence moves the cursor, renames the window or fills the clipboard; a carriage return or a
direction override shows another text than there is. Such characters are shown as JSON writes them, `\\u001b`:
nothing is hidden, and a row of JSON stays one. Files and pipes get the text as it is.
"""

from __future__ import annotations

import re

_OBEYED = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for TAB and LF, DEL, and C1, where \x9b is an escape sequence too
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directions
    "\u2028\u2029\ufeff\ufff9-\ufffb"  # other line ends, a BOM, annotations
    "\ud800-\udfff"  # halves of surrogate pairs, which can't be written at all
    "\U000e0000-\U000e007f"  # tags: invisible letters
    "]"
)


def terminal_safe(text: str) -> str:
    """`text` as a terminal may get it. Line ends are LF."""
    return _OBEYED.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
