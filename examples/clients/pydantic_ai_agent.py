# /// script
# requires-python = ">=3.11"
# dependencies = ["pydantic-ai-slim[openai]"]
# ///
"""pydantic-ai: an answer, a stream and a tool call. It speaks Responses.

eval "$(agent-orchestrator env openai)"     # sets OPENAI_BASE_URL and OPENAI_API_KEY
uv run examples/clients/pydantic_ai_agent.py
"""

import asyncio
import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel

MODEL = os.environ.get("CLIENT_MODEL", "auto")
agent = Agent(OpenAIResponsesModel(MODEL), instructions="You answer in one sentence.")


@agent.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city right now."""
    return f"12 degrees and rain in {city}"


async def main() -> None:
    answer = await agent.run("Name three rivers in Norway.")
    print("answer:", answer.output)

    print("stream: ", end="")
    async with agent.run_stream("Name three lakes in Norway.") as running:
        async for text in running.stream_text(delta=True):
            print(text, end="", flush=True)
    print()

    final = await agent.run('How warm is it? Please call get_weather {"city": "Oslo"}')
    print("tool:", final.output)


asyncio.run(main())
