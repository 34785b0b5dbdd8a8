# /// script
# requires-python = ">=3.11"
# dependencies = ["openai"]
# ///
"""The openai SDK with Responses: an answer, a stream and a tool call.

eval "$(agent-orchestrator env openai)"     # sets OPENAI_BASE_URL and OPENAI_API_KEY
uv run examples/clients/openai_responses.py
"""

import json
import os

from openai import OpenAI

MODEL = os.environ.get("CLIENT_MODEL", "auto")
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city right now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def get_weather(city: str) -> str:
    return f"12 degrees and rain in {city}"


client = OpenAI()

answer = client.responses.create(model=MODEL, input="Name three rivers in Norway.", store=False)
print("answer:", answer.output_text)

print("stream: ", end="")
with client.responses.stream(model=MODEL, input="Name three lakes in Norway.", store=False) as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    stream.get_final_response()
print()

# Nothing is stored at the provider, so each request carries the whole conversation.
history = [{"role": "user", "content": 'How warm is it? Please call get_weather {"city": "Oslo"}'}]
asked = client.responses.create(model=MODEL, input=history, tools=[WEATHER], store=False)
history += asked.output
for item in asked.output:
    if item.type == "function_call":
        result = get_weather(**json.loads(item.arguments))
        history.append({"type": "function_call_output", "call_id": item.call_id, "output": result})
final = client.responses.create(model=MODEL, input=history, tools=[WEATHER], store=False)
print("tool:", final.output_text)
