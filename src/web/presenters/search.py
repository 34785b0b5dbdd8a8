"""Whether the pages can search, and how far the index is."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.search_indexer import NO_MODULE
from ...core.store.search import COUNTED
from ...formatting import count, plural
from ..context import SUMS_FRESH_S, AppContext
from ..problems import Problem

OFF = "full-text search is off: set [pages] search = true"


@dataclass(frozen=True, slots=True)
class SearchView:
    """`off` says why there is no search; `behind` ended tasks are not in the index yet."""

    off: str
    behind: int

    @property
    def note(self) -> str:
        """What a search misses, as a sentence; empty if nothing."""
        if not self.behind:
            return ""
        if self.behind > COUNTED:
            return f"More than {count(COUNTED)} ended tasks are not indexed yet; the newest come first."
        are = "is" if self.behind == 1 else "are"
        return f"{plural(self.behind, 'ended task')} {are} not indexed yet; the newest come first."


def search_view(context: AppContext) -> SearchView:
    """How far the search is."""
    return context.cache.get("search", lambda: _search_view(context), SUMS_FRESH_S)


def _search_view(context: AppContext) -> SearchView:
    if not context.settings.pages.search:
        return SearchView(OFF, 0)
    progress = context.store.search.progress()
    return SearchView("" if progress.is_available else NO_MODULE, progress.behind)


def require_search(context: AppContext) -> SearchView:
    """How far the search is. Raises Problem 422 if there is none."""
    view = search_view(context)
    if view.off:
        raise Problem(422, "no_search", view.off[:1].upper() + view.off[1:] + ".", {"field": "q"})
    return view
