"""Text that every database, file and page takes: valid Unicode without NUL."""

from __future__ import annotations


def is_clean(text: str) -> bool:
    """Whether both databases take it: no half of a surrogate pair, no NUL."""
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def clean(text: str) -> str:
    """`text` with U+FFFD for what no database takes: a model may answer anything."""
    if is_clean(text):
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")
