"""Before a machine leaves the cluster: its workers finish the calls that they hold, and take no others.

Ray ends a node at once, with every call on it: on SIGTERM and with `ray stop` its own process goes first, and
that ends the workers. So this comes before, as the step before a stop of the service or container.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from ..errors import ConfigError
from .ray import JOIN_ERRORS, first_line, import_ray


class Drained(NamedTuple):
    """How many workers of this machine hold nothing any more, and how many still do."""

    idle: int
    busy: int


def drain_node(namespaces: str, wait_s: float) -> Drained:
    """Let the workers of this machine's Ray node finish, for `wait_s` at most. Blocks.

    `namespaces`: what the names of their namespaces begin with. Raises ConfigError where no node runs here.
    """
    ray = import_ray()
    try:
        ray.init(address="auto", log_to_driver=False, configure_logging=False)
    except (*JOIN_ERRORS, ray.exceptions.RayError) as error:
        raise ConfigError(f"no Ray node runs on this machine: {first_line(error)}") from error
    try:
        return _drain(ray, namespaces, wait_s)
    finally:
        ray.shutdown()


def _drain(ray: Any, namespaces: str, wait_s: float) -> Drained:
    node, asked = ray.get_runtime_context().get_node_id(), []
    for each in ray.util.list_named_actors(all_namespaces=True):
        if each["namespace"].startswith(namespaces):
            with suppress(ValueError):  # it has just ended
                asked.append(ray.get_actor(**each).drain.remote(node))
    done, late = ray.wait(asked, num_returns=len(asked), timeout=wait_s) if asked else ([], [])
    idle = 0
    for each in done:
        with suppress(ray.exceptions.RayError):  # it has ended
            idle += ray.get(each)
    return Drained(idle, len(late))
