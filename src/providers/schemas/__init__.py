"""A JSON schema for an answer, as each API format takes it. Pure.

Each takes a different subset of JSON Schema. A schema beyond that subset is given in words: the whole schema
as text in the system prompt, and every answer is checked against the user's own schema afterwards. So
a form may be laxer than the schema, or shut out what the schema merely allows for want of a word
(`additionalProperties`), but never force an answer that the schema forbids, nor one of several that it
offers. Where only that would be left, the form is None and the words alone have to do:

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
