"""Agents that tasks name: the task gets the agent's system prompt and prefers the agent's home provider.

The prompt becomes part of the task when the task is made. So estimates, reservations, prompt caches and
stored requests hold what is sent.
"""

from __future__ import annotations

from ...errors import InputError
from ...messages import Message
from ...settings import Settings
from .validation_messages import shown


def check_agent(name: str | None, settings: Settings) -> None:
    """Raises InputError for a name that no agent has."""
    if name is not None and settings.agent_named(name) is None:
        known = ", ".join(dict.fromkeys(agent.name for agent in settings.agents))
        raise InputError(f"unknown agent {shown(name)}; choose from {known}")


def with_agent_prompt(
    turns: tuple[Message, ...], name: str | None, settings: Settings
) -> tuple[Message, ...]:
    """The messages, after the agent's system prompt if they have none of their own. Raises InputError."""
    check_agent(name, settings)
    agent = None if name is None else settings.agent_named(name)
    if agent is None or not agent.system_prompt or any(turn.role == "system" for turn in turns):
        return turns
    return (Message("system", agent.system_prompt), *turns)
