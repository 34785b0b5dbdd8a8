"""The pages and the JSON API: what people see of the pool and what they ask of it.

    web_server.py -> app -> pages, api, auth      blueprints: what comes in, what goes out
                              |
                        actions, uploads          what a person does: written to the store
                        presenters                what a person sees: one for page and JSON
                              |
                        store                     where the orchestrator meets us

Nothing here calls a provider or the orchestrator. What is asked of a running pool is a setting or a command
in the store; it notices within a second.
"""

from .app import create_app

__all__ = ["create_app"]
