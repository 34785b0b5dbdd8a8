# /// script
# requires-python = ">=3.11"
# dependencies = ["anthropic"]
# ///
"""The anthropic SDK: an answer, a stream and a tool call.

eval "$(agent-orchestrator env anthropic)"     # sets ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY
uv run examples/clients/anthropic_messages.py
"""

import os

from anthropic import Anthropic

MODEL = os.environ.get("CLIENT_MODEL", "auto")
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city right now.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def get_weather(city: str) -> str:
    return f"12 degrees and rain in {city}"


client = Anthropic()

answer = client.messages.create(
    model=MODEL, max_tokens=300, messages=[{"role": "user", "content": "Name three rivers in Norway."}]
)
print("answer:", "".join(block.text for block in answer.content if block.type == "text"))

print("stream: ", end="")
with client.messages.stream(
    model=MODEL, max_tokens=300, messages=[{"role": "user", "content": "Name three lakes in Norway."}]
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
    stream.get_final_message()
print()

messages = [{"role": "user", "content": 'How warm is it? Please call get_weather {"city": "Oslo"}'}]
asked = client.messages.create(model=MODEL, max_tokens=300, messages=messages, tools=[WEATHER])
messages.append({"role": "assistant", "content": asked.content})
results = [
    {"type": "tool_result", "tool_use_id": block.id, "content": get_weather(**block.input)}
    for block in asked.content
    if block.type == "tool_use"
]
messages.append({"role": "user", "content": results})
final = client.messages.create(model=MODEL, max_tokens=300, messages=messages, tools=[WEATHER])
print("tool:", "".join(block.text for block in final.content if block.type == "text"))
