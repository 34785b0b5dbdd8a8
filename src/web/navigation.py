"""The entries of the navigation, in their order. Pages that the caller may not see are left out of it."""

from __future__ import annotations

from typing import NamedTuple


class NavigationLink(NamedTuple):
    """A page of the navigation. Addresses at or below its path or one of `also` are part of it."""

    path: str
    label: str
    also: tuple[str, ...] = ()

    def holds(self, path: str) -> bool:
        """Whether the page at `path` belongs to this entry."""
        parts = (self.path, *self.also)
        return path in parts or any(path.startswith(f"{part}/") for part in parts if part != "/")


NAVIGATION = (
    NavigationLink("/", "Dashboard"),
    NavigationLink("/batches", "Batches", also=("/batch",)),
    NavigationLink("/tasks", "Tasks", also=("/rows",)),
    NavigationLink("/provider-status", "Providers", also=("/provider-batches",)),
    NavigationLink("/rebalance", "Rebalance"),
    NavigationLink("/costs", "Costs"),
    NavigationLink("/events", "Events"),
)
NEW = NavigationLink("/new", "New", also=("/uploads",))  # drawn as a button
