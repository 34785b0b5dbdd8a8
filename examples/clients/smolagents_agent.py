# /// script
# requires-python = ">=3.11"
# dependencies = ["smolagents[openai]"]
# ///
"""smolagents: an answer, a stream and a tool call. It speaks Chat Completions.

eval "$(agent-orchestrator env openai)"     # sets OPENAI_BASE_URL and OPENAI_API_KEY
uv run examples/clients/smolagents_agent.py
"""

import os

from smolagents import OpenAIServerModel, ToolCallingAgent, tool

MODEL = os.environ.get("CLIENT_MODEL", "auto")


@tool
def get_weather(city: str) -> str:
    """The weather in a city right now.

    Args:
        city: The name of the city.
    """
    return f"12 degrees and rain in {city}"


model = OpenAIServerModel(MODEL)


def asking(text):
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]


print("answer:", model(asking("Name three rivers in Norway.")).content)

print("stream: ", end="")
for delta in model.generate_stream(asking("Name three lakes in Norway.")):
    print(delta.content or "", end="", flush=True)
print()

agent = ToolCallingAgent(tools=[get_weather], model=model, max_steps=2, verbosity_level=0)
question = 'How warm is it? Please call get_weather {"city": "Oslo"}'
print("tool:", agent.run(question))
