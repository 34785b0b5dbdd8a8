"""The pages and the JSON API on http://localhost:5000.

python web_server.py --help
"""

from __future__ import annotations

from src.dependencies import exit_if_not_installed

if __name__ == "__main__":
    try:
        from src.pages_server import main

        main()
    except ModuleNotFoundError as error:
        exit_if_not_installed(error)
        raise
