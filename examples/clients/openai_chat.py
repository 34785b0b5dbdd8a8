# /// script
# requires-python = ">=3.11"
# dependencies = ["openai"]
# ///
"""The openai SDK with Chat Completions: an answer, a stream and a tool call.

eval "$(agent-orchestrator env openai)"     # sets OPENAI_BASE_URL and OPENAI_API_KEY
uv run examples/clients/openai_chat.py
"""

import json
import os

from openai import OpenAI

MODEL = os.environ.get("CLIENT_MODEL", "auto")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city right now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def get_weather(city: str) -> str:
    return f"12 degrees and rain in {city}"


client = OpenAI()

answer = client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": "Name three rivers in Norway."}]
)
print("answer:", answer.choices[0].message.content)

print("stream: ", end="")
with client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": "Name three lakes in Norway."}], stream=True
) as stream:
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, end="", flush=True)
print()

messages = [{"role": "user", "content": 'How warm is it? Please call get_weather {"city": "Oslo"}'}]
asked = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
messages.append(asked.choices[0].message.model_dump(exclude_none=True))
for call in asked.choices[0].message.tool_calls:
    result = get_weather(**json.loads(call.function.arguments))
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
final = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
print("tool:", final.choices[0].message.content)
