"""Builds the pool: two agents at home with Claude, three with GPT, two with Gemini by default."""

from __future__ import annotations

from collections.abc import Mapping

from ..providers.base import ProviderAdapter
from ..routing.state import agent_rows
from ..settings import Settings
from .real_agent import RealAgent


def create_balanced_agent_pool(
    settings: Settings, adapters: Mapping[str, ProviderAdapter]
) -> dict[str, RealAgent]:
    """Every agent of the configuration by name, each with clients for all providers.

    An agent whose home is not configured works for the others.
    """
    return {name: RealAgent(name, config, adapters, settings) for name, config in agent_rows(settings.agents)}
