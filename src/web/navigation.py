"""The entries of the navigation, in their order. Pages that the caller may not see are left out of it."""

from __future__ import annotations

from typing import NamedTuple


class NavigationLink(NamedTuple):
    """A page of the navigation. Addresses that begin with its path or one of `also` are part of it."""

    path: str
    label: str
    also: tuple[str, ...] = ()

    def holds(self, path: str) -> bool:
        """Whether the page at `path` belongs to this entry."""
        return path == self.path or any(
            path.startswith(f"{part}/") for part in (self.path.rstrip("/"), *self.also) if part
        )


NAVIGATION = (
    NavigationLink("/", "Dashboard"),
    NavigationLink("/batches", "Batches"),
    NavigationLink("/tasks", "Tasks", also=("/rows",)),
    NavigationLink("/provider-status", "Providers"),
    NavigationLink("/rebalance", "Rebalance"),
    NavigationLink("/costs", "Costs"),
    NavigationLink("/events", "Events"),
)
NEW = NavigationLink("/new", "New", also=("/uploads",))  # drawn as a button
