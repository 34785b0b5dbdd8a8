"""The gateway: an endpoint for clients of the OpenAI and Anthropic APIs in front of the pool."""
