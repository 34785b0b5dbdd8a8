"""The pages and the JSON API: show the pool, submit tasks, change settings.

    pages_server.py -> app -> pages, *_pages, api, metrics, auth   blueprints: requests and responses
                              |
        task_actions, provider_actions, uploads   changes, written to the store
                        presenters                views, the same for page and JSON
                              |
                            store                 shared with the orchestrator

Nothing here calls a provider or the orchestrator. A change of a running pool is a setting or a command in the
store, which the orchestrator reads every second.
"""

from .app import create_app

__all__ = ["create_app"]
