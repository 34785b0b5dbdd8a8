"""One agent: a worker with a home provider, a speciality, and clients for every provider.

It carries out placements and decides nothing. The placement names the provider, so an agent can finish a task
at another provider when its home has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ..answer_schema import Reading, read_answer_apart
from ..errors import SchemaMismatch, TimedOut, Truncated
from ..messages import Text, tool_calls_in
from ..providers.base import ProviderAdapter
from ..records import Completion, CompletionRequest, FinishReason, Placement
from ..settings import AgentConfig, Settings
from ..stream_events import Finished, Offer, StreamEvent, deltas_of, refuse
from .stream_limits import within_limits


class RealAgent:
    """A worker that makes the one call of a placement. All agents share `adapters`, by provider name."""

    def __init__(
        self,
        name: str,
        config: AgentConfig,
        adapters: Mapping[str, ProviderAdapter],
        settings: Settings,
    ) -> None:
        self.name = name
        self.home = config.home
        self.task_types = config.task_types
        self.slots = config.calls_in_flight
        self._adapters = adapters
        self._settings = settings

    def __repr__(self) -> str:
        return f"<RealAgent {self.name} home={self.home} slots={self.slots}>"

    async def attempt(self, placement: Placement) -> Completion:
        """Make the one call of a placement. Raises a `ProviderError` where no usable answer comes."""
        return await answer(self._adapters, placement.provider, self.request_for(placement))

    async def stream(
        self, placement: Placement, heard: Callable[[], None], offer: Offer = refuse
    ) -> AsyncGenerator[StreamEvent, None]:
        """The one call of a placement, event by event; raises like `attempt`, at any point.

        Events that `offer` takes are not yielded.

        It may last until the task's deadline: a stream that stands still ends long before. `heard` is called
        about each second while events come.

        An answer that must match a schema is checked before any of it is delivered, unless the provider gets
        the request as its caller wrote it: then the provider answers for it. Closing the generator early
        closes the connection.
        """
        request = self.request_for(placement)
        if (deadline_at := placement.task.deadline_at) is not None:
            request = replace(request, timeout_s=max(request.timeout_s, deadline_at - placement.at))
        provider = placement.provider
        is_checked = request.response_schema is not None

        def offer_unchecked(events: Sequence[StreamEvent]) -> bool:
            return not is_checked and offer(events)

        events = within_limits(self._adapters[provider].stream, request, provider, heard, offer_unchecked)
        async with aclosing(events):
            async for event in events:
                if event.raw:
                    is_checked = False
                if not is_checked:
                    yield event
                elif isinstance(event, Finished):
                    completion = await checked(event.completion, request, provider)
                    for each in deltas_of(completion):
                        yield each
                    yield Finished(completion)

    def request_for(self, placement: Placement) -> CompletionRequest:
        """The placement as a request: parameters that the model does not take are left out."""
        task = placement.task
        config = self._settings.lookup_model(placement.model)
        provider = self._settings.providers[placement.provider]
        given = task.parameters
        lowered = self._settings.lowered_temperature(placement.provider, task.temperature)
        unsent = self._settings.unsent(placement.provider, placement.model, given) if given else {}
        return CompletionRequest(
            model=placement.model,
            messages=task.messages,
            max_tokens=placement.max_tokens,
            temperature=None if "temperature" in unsent else lowered or task.temperature,
            top_p=None if "top_p" in unsent else task.top_p,
            seed=None if "seed" in unsent else task.seed,
            stop=() if "stop" in unsent else task.stop,
            timeout_s=placement.timeout_s,
            first_token_timeout_s=None if placement.service_tier else provider.first_token_timeout_s,
            stall_timeout_s=None if placement.service_tier else provider.stall_timeout_s,
            response_schema=task.response_schema,
            reasoning_effort=None if "reasoning_effort" in unsent else task.reasoning_effort,
            tools=task.tools,
            tool_choice=task.tool_choice,
            parallel_tool_calls=task.parallel_tool_calls,
            native=task.native,
            parameters={
                "max_tokens_parameter": config.max_tokens_parameter,
                "schema_in_words": "response_schema" in unsent,
                "unsent": tuple(unsent),
                "prompt_cache": config.prompt_cache if self._settings.caching.enabled else "",
                "thinking_headroom_tokens": config.thinking_headroom_tokens,
                "thinking": config.thinking,
            },
            cache_key=placement.cache_key,
            cached_turns=placement.cached_turns,
            service_tier=placement.service_tier,
        )


async def complete(
    adapters: Mapping[str, ProviderAdapter], provider: str, request: CompletionRequest
) -> Completion:
    """One exchange within `request.timeout_s`, the total, which no SDK's own timeout is."""
    try:
        async with asyncio.timeout(request.timeout_s):
            return await adapters[provider].complete(request)
    except TimeoutError as error:
        text = f"no complete answer within {request.timeout_s:g} s"
        raise TimedOut(text, provider=provider, model=request.model) from error


async def answer(
    adapters: Mapping[str, ProviderAdapter], provider: str, request: CompletionRequest
) -> Completion:
    """Make one call and check its answer. Raises a `ProviderError` where no usable answer comes."""
    return await checked(await complete(adapters, provider, request), request, provider)


async def checked(completion: Completion, request: CompletionRequest, provider: str) -> Completion:
    """The completion, as its request's schema wants it. Raises like `matching`."""
    if request.response_schema is None or tool_calls_in(completion.parts):
        return completion  # a schema is for the last answer, not for the calls before it
    reading = await read_answer_apart(completion.text, request.response_schema)
    return matching(completion, reading, provider, request.model)


def matching(completion: Completion, reading: Reading, provider: str, model: str) -> Completion:
    """The completion reduced to its JSON. Raises SchemaMismatch, or Truncated where it was cut off.

    JSON that was cut off is not the model's mistake: it needs a larger max_tokens, not a correction.
    """
    if reading.text is not None:
        others = tuple(part for part in completion.parts if not isinstance(part, Text))
        parts = (*others, Text(reading.text)) if others else ()
        return replace(completion, text=reading.text, parts=parts)
    facts: dict[str, Any] = {
        "provider": provider,
        "model": model,
        "status": 200,
        "limits": completion.limits,
        "usage": completion.usage,
    }
    if completion.finish_reason is FinishReason.LENGTH:
        raise Truncated("max_tokens was spent before the JSON was whole", **facts)
    message = f"the answer does not match its schema: {reading.where}"
    raise SchemaMismatch(message, answer=completion.text, problems=reading.problems, **facts)
