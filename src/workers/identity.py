"""What has to be equal on the leader and on its workers, so that a call means the same on both.

The configuration of a call travels with it, except for what an adapter is built from: the API format, the
limits of its connections, and the address and the key of the provider. Keys never travel; both sides read
them from their own environment, and compare fingerprints.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping

from ..config import ProviderAccess, identity
from ..package import version
from ..settings import Settings
from .port import ACCEPTED, Description, Inventory

_OF_ADAPTERS = ("api_format", "connect_timeout_s", "responses_api")


def describe(name: str, settings: Settings, access: Mapping[str, ProviderAccess]) -> Description:
    """This process as a worker, or as a leader to compare workers with. `access`: configured or not."""
    used = {each.name: each for each in access.values() if each.configured}
    return {
        "name": name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": version(),
        "configuration": configuration_digest(settings),
        "fingerprints": {each: " ".join(identity(used[each])) for each in sorted(used)},
    }


def configuration_digest(settings: Settings) -> str:
    """A digest of the settings that adapters are built from, without addresses and keys."""
    facts = {
        name: [getattr(config, field) for field in _OF_ADAPTERS]
        for name, config in sorted(settings.providers.items())
        if config.enabled
    }
    text = json.dumps([facts, settings.pool.max_answer_mb])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mismatch(leader: Description, inventory: Inventory) -> str:
    """Why this worker can't make calls for the leader, in one line; empty if it can."""
    if inventory["protocol"] not in ACCEPTED:
        return f"its protocol is {inventory['protocol']}, expected {max(ACCEPTED)} (install the same version)"
    worker = inventory["description"]
    if worker["version"] != leader["version"] and inventory["protocol"] == max(ACCEPTED):
        return f"its version is {worker['version']}, expected {leader['version']}"
    return difference(leader, worker)


def difference(leader: Description, worker: Description) -> str:
    """Why this worker's calls would not be the leader's: keys, addresses, settings; empty if they are."""
    wanted, found = leader["fingerprints"], worker["fingerprints"]
    for name in sorted(wanted):
        if name not in found:
            return f"it has no key for {name} (set the variable in its environment)"
        if found[name] != wanted[name]:
            return f"its address or key of {name} is another one"
    if worker["configuration"] != leader["configuration"]:
        return "its configuration of providers is another one"
    return ""
