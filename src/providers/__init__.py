"""The providers' SDKs behind one seam: `base` is the seam, `build_adapter` the door.

Only the files `*_adapter.py` import an SDK, and only when it is first needed.
"""

from .factory import build_adapter

__all__ = ["build_adapter"]
