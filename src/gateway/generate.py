"""A model's answer to a request of one of the three APIs, or its embeddings.

    body -> Format.read -> CallerRequest -> Task -> pool.direct.ask -> Format.answer or StreamWriter

What a request may use follows from the name of its model and from its fields: a field that only the API that
was called knows, and that changes the meaning, leaves only the providers of that API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from ..answer_schema import check_schema
from ..core.direct import run_batch
from ..core.task_ends import contents_kept
from ..errors import InputError, ModelUnavailable, NoRoute
from ..records import GENERAL, Task
from .answers import CALLER, REQUEST_ID, body_response
from .asked import Asked, answer_headers
from .bodies import check_type, read_object
from .context import CONTEXT, GatewayContext
from .formats.base import CallerRequest, Format, FormatError
from .formats.chat import CHAT
from .formats.embeddings import VECTORS
from .formats.messages import MESSAGES
from .formats.problems import ProblemKind
from .formats.responses import RESPONSES
from .guard import Caller
from .names import ModelChoice, choose_embedder, meant
from .problems import not_leading, problem
from .requests import RequestOptions, request_options
from .streaming import Stream

VIA = "via"
BATCHES = "gateway"  # requests without a run are in gateway/SUBMITTER or gateway/SUBMITTER/BATCH


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """OpenAI Chat Completions."""
    return await _generate(request, CHAT)


async def responses(request: web.Request) -> web.StreamResponse:
    """OpenAI Responses."""
    return await _generate(request, RESPONSES)


async def embeddings(request: web.Request) -> web.StreamResponse:
    """OpenAI embeddings."""
    return await _generate(request, VECTORS)


async def messages(request: web.Request) -> web.StreamResponse:
    """Anthropic Messages."""
    return await _generate(request, MESSAGES)


async def _generate(request: web.Request, form: Format) -> web.StreamResponse:
    context = request.app[CONTEXT]
    check_type(request)
    if context.placing() is None:
        raise not_leading()
    body = await read_object(request)
    headers = lower_case(request)
    found = await body.in_turn(form.read, body.value, headers)
    if found.response_schema is not None:
        await asyncio.to_thread(_check_schema, found.response_schema)
    asked = await body.in_turn(as_task, request, form, found, body.value, headers)
    pool = context.placing()
    if pool is None:  # it may have ended while the body was read
        raise not_leading()
    context.open_requests[asked.task.id] = asked.task.submitter
    try:
        if asked.request.stream:
            return await Stream(request, asked).run(pool)
        answer = await pool.direct.ask(
            asked.task, run=asked.run, idempotency_key=asked.options.idempotency_key
        )
    except (ModelUnavailable, NoRoute) as error:
        raise _explained(error, found.model, context) from error
    finally:
        del context.open_requests[asked.task.id]
    content = form.answer(asked.request, asked.served(answer.placement.model), answer.completion)
    return body_response(content, headers=answer_headers(asked, answer))


def _explained(error: ModelUnavailable | NoRoute, model: str, context: GatewayContext) -> FormatError:
    """The error with the names that were probably meant. A provider that invented an API gets any model of
    its kind, so that only the provider, or a missing price, shows that a name is misspelt.
    """
    found = problem(error)
    text = meant(model, context.settings, context.called)
    return FormatError.of(replace(found, message=f"{found.message}; {text}") if text else found)


def _check_schema(schema: Mapping[str, Any]) -> None:
    """Raises FormatError for what is no schema: it would fail in every call. May take seconds."""
    try:
        check_schema(schema)
    except InputError as error:
        raise FormatError(error.what.replace("'response_schema'", "the schema of the answer", 1)) from None


def lower_case(request: web.Request) -> dict[str, str]:
    """The headers by their names in lower case."""
    return {name.lower(): value for name, value in request.headers.items()}


def as_task(
    request: web.Request,
    form: Format,
    found: CallerRequest,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
) -> Asked:
    """The task that a request becomes. Raises FormatError."""
    context, caller = request.app[CONTEXT], request[CALLER]
    options = request_options(headers, body, caller.role, context.settings.task_types)
    choice = _choice(found, context)
    if options.idempotency_key and form is VECTORS:
        raise FormatError("embeddings are not stored, so there are no keys for them", param="Idempotency-Key")
    if options.idempotency_key and contents_kept(context.settings.gateway) != "all":
        message = 'an Idempotency-Key needs stored answers: [gateway] store_content = "all"'
        raise FormatError(message, param="Idempotency-Key")
    if VIA in headers:  # passed on, so that a loop through several gateways is found too
        kept = {**found.native.headers, VIA: headers[VIA]}
        found = replace(found, native=replace(found.native, headers=kept))
    now = context.clock.now()
    task = Task(
        id=request[REQUEST_ID],
        batch=_batch(caller, options),
        messages=found.messages,
        tier=choice.tier,
        models=choice.models,
        providers=choice.providers,
        max_tokens=found.max_tokens,
        temperature=found.temperature,
        top_p=found.top_p,
        seed=found.seed,
        stop=found.stop,
        reasoning_effort=found.reasoning_effort,
        response_schema=found.response_schema,
        tools=found.tools,
        tool_choice=found.tool_choice,
        parallel_tool_calls=found.parallel_tool_calls,
        native=found.native,
        deadline_at=now + options.timeout_s,
        priority=options.priority,
        submitter=caller.name,
        created_at=now,
        task_type=options.task_type or GENERAL,
    )
    return Asked(form, found, options, task, context.settings, context.simulated)


def _batch(caller: Caller, options: RequestOptions) -> str:
    if options.run_id:
        return run_batch(caller.name, options.run_id)
    return "/".join(filter(None, (BATCHES, caller.name, options.batch)))


def _choice(found: CallerRequest, context: GatewayContext) -> ModelChoice:
    """What the request may use. Raises FormatError if no provider serves it."""
    if found.form == VECTORS.form:
        return choose_embedder(found.model, context.settings, context.called)
    return _able(context.choose(found.model), found, context)


def _able(choice: ModelChoice, found: CallerRequest, context: GatewayContext) -> ModelChoice:
    """The choice without the providers whose API lacks a field. Raises FormatError if none is left."""
    if not found.only_form:
        return choice
    rows = context.settings.providers
    able = choice.providers or context.settings.left_by(choice.models, ())
    left = tuple(name for name in able if name in context.called and found.form in rows[name].native_forms)
    if not left:
        fields = ", ".join(found.only_form)
        raise FormatError(
            f"only a provider of this API takes {fields}; none serves {found.model!r}",
            param=found.only_form[0],
            kind=ProblemKind.BAD_REQUEST,
        )
    return replace(choice, providers=left)
