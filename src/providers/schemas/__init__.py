"""A JSON schema for an answer, as each API format takes it. Pure.

Each accepts a different subset of JSON Schema. If a schema exceeds it, the whole schema also goes into the
system prompt as text, and every answer is validated against the user's schema. So a form may be laxer than
the schema, or exclude additional properties that the schema merely allows. It must not force an answer that
the schema forbids, or one of several alternatives. Where that is impossible, the form is None, and only the
text is sent:

    anthropic   recursion, open objects, values without a type, unions of objects that belong together
    openai      a root that is no object. What strict mode does not take goes without strict mode
    gemini      recursion, unions (but for null), values without a type, open objects
"""

from __future__ import annotations

from .anthropic_form import anthropic_form
from .gemini_form import gemini_form
from .openai_form import closed, openai_form
from .shared import NOT_EXPRESSIBLE, Form

__all__ = ["NOT_EXPRESSIBLE", "Form", "anthropic_form", "closed", "gemini_form", "openai_form"]
