"""Builds the pool: two agents at home with Claude, three with GPT, two with Gemini by default."""

from __future__ import annotations

from collections.abc import Collection, Mapping

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
    return {
        name: RealAgent(name, row, adapters, settings, add_system_prompt=settings.agent_prompts)
        for name, row in agent_rows(settings.agents)
    }


def home_counts(pool: Collection[RealAgent]) -> dict[str, int]:
    """How many agents are at home with each provider: `{"anthropic": 2, "openai": 3, "gemini": 2}`."""
    counts: dict[str, int] = {}
    for agent in pool:
        counts[agent.home] = counts.get(agent.home, 0) + 1
    return counts
