"""`count_tokens` of the Anthropic API: an estimate, without a call.

It uses the tokens per character that answers of the provider have taught, and its formula for images.
"""

from __future__ import annotations

import math

from aiohttp import web

from ..routing.limits.estimator import TOKENS_PER_MESSAGE
from .answers import body_response
from .bodies import check_type, read_object
from .context import CONTEXT
from .formats.messages import MESSAGES
from .generate import as_task, lower_case
from .problems import not_leading


async def count_tokens(request: web.Request) -> web.Response:
    """About how many tokens a request would read."""
    context = request.app[CONTEXT]
    check_type(request)
    body = await read_object(request)
    headers = lower_case(request)
    found = await body.in_turn(MESSAGES.read_count, body.value, headers)
    task = (await body.in_turn(as_task, request, MESSAGES, found, body.value, headers)).task
    pool = context.leading()
    if pool is None:
        raise not_leading()
    allowed = context.settings.with_families(task.providers)
    able = [each for each in pool.balancer.providers if not allowed or each.name in allowed]
    own = [each for each in able if MESSAGES.form in each.config.native_forms]
    provider = (own or able or pool.balancer.providers)[0]
    per_char = provider.estimators.of(task.task_type).tokens_per_char
    media = sum(provider.config.api.media_tokens(each) for each in task.media)
    tokens = math.ceil(task.text_chars * per_char) + TOKENS_PER_MESSAGE * len(task.messages) + media
    return body_response(MESSAGES.count(tokens), headers={"x-orchestrator-estimated": "true"})
