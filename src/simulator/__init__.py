"""Anthropic, OpenAI and Gemini as local HTTP servers: API formats, limits, headers, latency and failures.

    python -m src.simulator                  # prints the addresses, serves until standard input closes
    with SimulatorProcess.start() as sim:    # the same as a child process
        sim.base_urls["openai"]

Imports nothing of the rest of this project.
"""

from .process import SimulatorProcess

__all__ = ["SimulatorProcess"]
