"""Imported by every Python that a test starts, because its folder is on their PYTHONPATH."""

import importlib.util
from pathlib import Path

for _name in ("no_network", "database_guard"):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).parent.parent / f"{_name}.py")
    assert _spec is not None and _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
    _module.install()
