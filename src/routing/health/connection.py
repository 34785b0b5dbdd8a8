"""What was last heard from a provider, and since when it can't be reached.

A time-out is no word from the provider. One with calls in flight and no word for long is *suspect*; while its
health check answers, one call at a time may try it (`probe_allowed`), with twice the wait after each that is
not answered.
"""

from __future__ import annotations

_DOUBLINGS_AT_MOST = 6


class Connection:
    """The connection to one provider. All times are UTC epoch seconds passed in as `now`."""

    __slots__ = (
        "cut_at",
        "heard_at",
        "lists_models",
        "lost_from",
        "probe_after",
        "probe_allowed",
        "probes_in_vain",
        "reached_at",
        "trusted_from",
        "unreachable_at",
        "unreachable_since",
    )

    def __init__(self) -> None:
        self.heard_at = 0.0  # the end of the last call that did not time out; silence counts from then on
        self.reached_at = float("-inf")  # when anything last came from it over the network
        self.unreachable_since: float | None = None
        self.unreachable_at = float("-inf")  # the newest evidence for that
        self.lists_models = False  # a health check was answered: from now on its silence means something
        self.cut_at = float("-inf")  # calls placed up to then were cut off ...
        self.lost_from = float("inf")  # ... and are given up from then on
        self.probe_allowed = False  # one call may go although it is suspect
        self.probe_after = 0.0
        self.probes_in_vain = 0
        self.trusted_from = float("-inf")  # time-outs of calls placed before show nothing: it was silent then

    # ------------------------------------------------------------------ calls

    def heard(self, now: float) -> None:
        """A call has ended, a streamed one goes on, or the silence before does not count: idle, offline."""
        self.heard_at = now

    def trust(self, now: float) -> None:
        """The provider has answered: its silence before is not held against it."""
        if self.probes_in_vain or self.probe_allowed:
            self.probe_allowed, self.probes_in_vain, self.probe_after = False, 0, 0.0
        self.trusted_from = now

    def allow_probe(self, now: float) -> bool:
        """One call may try a suspect provider whose health check answers. Whether that is news."""
        if now < self.probe_after or self.probe_allowed:
            return False
        self.probe_allowed = True
        return True

    def probe_placed(self, now: float, floor_s: float) -> None:
        """The call that tries a suspect provider has gone."""
        self.probe_allowed = False
        self.probe_after = now + floor_s * 2.0 ** min(self.probes_in_vain, _DOUBLINGS_AT_MOST)
        self.probes_in_vain += 1

    # ------------------------------------------------------------------ the network

    def reached(self, now: float) -> None:
        """Something came from the provider over the network."""
        self.reached_at = now

    def found(self, now: float) -> None:
        """The provider is there."""
        self.reached_at = now
        self.unreachable_since = None

    def network_is_back(self, now: float) -> None:
        """The network was gone, and with it every provider: silence counts from now on."""
        self.unreachable_since = None
        self.heard(now)

    def lost_sight(self, since: float) -> None:
        """The provider may have been unreachable since then."""
        if self.unreachable_since is None:
            self.unreachable_since = since

    def proved_unreachable(self, now: float) -> None:
        """A call or health check found no connection."""
        self.unreachable_at = now

    def is_gone(self, now: float, fresh_s: float) -> bool:
        """Whether it can't be reached, by evidence that is at most `fresh_s` old."""
        return self.unreachable_since is not None and now - self.unreachable_at <= fresh_s

    def cut(self, now: float, grace_s: float) -> None:
        """Calls in flight were cut off; those that do not return within `grace_s` are given up."""
        self.cut_at, self.lost_from = now, now + grace_s

    def take_cut(self, now: float) -> bool:
        """Whether calls that were cut off are to be given up now; once per cut."""
        if now < self.lost_from:
            return False
        self.lost_from = float("inf")
        return True
