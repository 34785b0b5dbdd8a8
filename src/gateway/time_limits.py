"""How long a client may take, and when it hears from a stream. Not settings: only tests change them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds. The head of a request and its reader are checked every `sweep_s`."""

    head_s: float = 10.0  # from the connection to the end of its first request's head, as for the pages
    first_s: float = 0.5  # at the end of the process, for a request on a connection that was just accepted
    read_s: float = 60.0  # without a byte taken by the client while bytes of an answer wait for it
    standby_read_s: float = 300.0  # the same for a standby, which takes bytes in larger steps than its client
    status_s: float = 20.0  # until the status of a stream is sent; the SDKs wait far longer
    keep_alive_s: float = 15.0  # between two events of a stream: proxies cut after 30 to 60 s of silence
    sweep_s: float = 1.0


STANDARD = TimeLimits()
