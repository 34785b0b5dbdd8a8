"""The provider APIs behind one seam: `base` is the seam, `api_formats` the table, `factory` builds adapters.

Only the files `*_adapter.py` import an SDK, and only when it is first needed.
"""
