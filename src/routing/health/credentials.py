"""Whether a provider's API key works.

unproven   no call was answered yet
in doubt   one call was refused: see `doubts.py`
rejected   no call goes there, until the health check answers or a person resumes the provider
worked     a call was answered
"""

from __future__ import annotations

from .doubts import Doubt


class KeyState:
    """The key of one provider. All times are UTC epoch seconds passed in as `now`."""

    __slots__ = ("doubt", "error", "list_is_public", "rejected_at", "rejection", "worked")

    def __init__(self) -> None:
        self.rejection = ""  # what the provider answered, empty while the key is not rejected
        self.rejected_at = float("-inf")
        self.doubt = Doubt()
        self.error = ""  # the answer that raised the doubt
        self.list_is_public = False  # its list of models is given although the key is refused
        self.worked = False

    def answered(self) -> None:
        """A call was answered."""
        self.worked = True
        self.list_is_public = False
        self.rejection = ""
        if self.doubt.raised:
            self.doubt.clear()

    def refused(self, error: str, status: int | None, permit: int, newest_permit: int, now: float) -> bool:
        """A call was refused. Whether that proves that a key that has never worked is bad."""
        self.error = error
        proven = self.doubt.refused(status, permit, newest_permit, now, wait=not self.worked)
        return proven and not self.worked

    def vouched(self, needed: int) -> None:
        """The health check answers, which shows of a key that has never worked that the list is public."""
        if self.worked:
            self.doubt.clear()
        else:
            self.doubt.vouched(needed)
            self.list_is_public = True

    def reject(self, now: float) -> None:
        """The refusal is proven."""
        self.rejection, self.rejected_at = self.error, now
        self.doubt.clear()

    def accept(self) -> None:
        """The key may be tried again."""
        self.rejection = ""
        self.doubt.clear()
