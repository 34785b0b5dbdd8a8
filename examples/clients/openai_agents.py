# /// script
# requires-python = ">=3.11"
# dependencies = ["openai-agents"]
# ///
"""The OpenAI Agents SDK: an answer, a stream and a tool call. It speaks Responses.

eval "$(agent-orchestrator env openai)"     # sets OPENAI_BASE_URL and OPENAI_API_KEY
uv run examples/clients/openai_agents.py
"""

import asyncio
import os

from openai.types.responses import ResponseTextDeltaEvent

from agents import Agent, ModelSettings, Runner, function_tool, set_tracing_disabled

MODEL = os.environ.get("CLIENT_MODEL", "auto")
set_tracing_disabled(True)  # traces would go to OpenAI


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city right now."""
    return f"12 degrees and rain in {city}"


agent = Agent(
    name="Geographer",
    instructions="You answer in one sentence.",
    model=MODEL,
    model_settings=ModelSettings(store=False),  # nothing is kept at the provider
    tools=[get_weather],
)


async def main() -> None:
    answer = await Runner.run(agent, "Name three rivers in Norway.")
    print("answer:", answer.final_output)

    print("stream: ", end="")
    running = Runner.run_streamed(agent, "Name three lakes in Norway.")
    async for event in running.stream_events():
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
            print(event.data.delta, end="", flush=True)
    print()

    final = await Runner.run(agent, 'How warm is it? Please call get_weather {"city": "Oslo"}')
    print("tool:", final.final_output)


asyncio.run(main())
