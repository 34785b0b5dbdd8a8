# /// script
# requires-python = ">=3.11"
# dependencies = ["crewai"]
# ///
"""CrewAI: an answer, a stream and a tool call. It speaks Chat Completions.

eval "$(agent-orchestrator env openai)"     # sets OPENAI_BASE_URL and OPENAI_API_KEY
uv run examples/clients/crewai_crew.py
"""

import os

os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

MODEL = os.environ.get("CLIENT_MODEL", "auto")
ADDRESS = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]


@tool("get_weather")
def get_weather(city: str) -> str:
    """The weather in a city right now."""
    return f"12 degrees and rain in {city}"


model = LLM(model=MODEL, provider="openai", base_url=ADDRESS, api_key=KEY)
print("answer:", model.call("Name three rivers in Norway."))
streaming = LLM(model=MODEL, provider="openai", base_url=ADDRESS, api_key=KEY, stream=True)
print("stream:", streaming.call("Name three lakes in Norway."))

geographer = Agent(
    role="Geographer", goal="Answer questions about places.", backstory="You know the world.",
    llm=model, tools=[get_weather], max_iter=4,
)  # fmt: skip
question = Task(
    description='How warm is it? Please call get_weather {"city": "Oslo"}',
    expected_output="One sentence.",
    agent=geographer,
)
print("tool:", Crew(agents=[geographer], tasks=[question]).kickoff().raw)
