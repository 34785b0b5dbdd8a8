"""The batch APIs of OpenAI, Anthropic and Gemini: many requests in one, answered within a day at half price.

The course of a batch is decided when it is created: how long it takes, whether it expires, which rows fail.
What it shows at a moment of the batch clock follows from that (`timeline.py`). Its rows are answered when
a client looks at it, by the engine that answers live calls, but without live limits (`store.py`). One file of
each API says what a request may hold and how a batch looks; `server.py` has what all share: keys, limits and
faults.
"""
