"""The pages and the JSON API on http://localhost:5000.

python web_server.py --help
"""

from __future__ import annotations

from src.entry import pages

if __name__ == "__main__":
    pages()
