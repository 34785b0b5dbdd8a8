# /// script
# requires-python = ">=3.11"
# dependencies = ["langchain-openai"]
# ///
"""LangChain: an answer, a stream and a tool call.

eval "$(agent-orchestrator env openai)"     # sets OPENAI_BASE_URL and OPENAI_API_KEY
uv run examples/clients/langchain_chat.py
"""

import os

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

MODEL = os.environ.get("CLIENT_MODEL", "auto")


@tool
def get_weather(city: str) -> str:
    """The weather in a city right now."""
    return f"12 degrees and rain in {city}"


model = ChatOpenAI(model=MODEL)
print("answer:", model.invoke("Name three rivers in Norway.").text)

print("stream: ", end="")
for chunk in model.stream("Name three lakes in Norway."):
    print(chunk.text, end="", flush=True)
print()

with_tools = model.bind_tools([get_weather])
history = [HumanMessage('How warm is it? Please call get_weather {"city": "Oslo"}')]
asked = with_tools.invoke(history)
history.append(asked)
history += [get_weather.invoke(call) for call in asked.tool_calls]
print("tool:", with_tools.invoke(history).text)
