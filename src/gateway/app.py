"""The application: its routes, the roles that may use them, and the shape of every error.

    request -> shield -> guard (headers only) -> route -> body -> answer
                     where this process does not lead: -> leader -> answer

Everything that is raised becomes an error of the API that was called. Bodies and keys are never logged.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from ..errors import NotServing, ProviderError, RequestDeclined, StoreError
from ..tokens import Role
from . import counting, generate, information, tasks
from .answers import CALLER, REQUEST_ID, error_response, id_headers
from .bodies import BODIES, Bodies
from .connections import CONNECTIONS, Connections
from .context import CONTEXT, GatewayContext
from .formats.base import FormatError
from .formats.problems import Problem, ProblemKind
from .forwarding import MISDIRECTED, comes_from_standby, has_key
from .problems import problem

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

EVERYONE: frozenset[Role] = frozenset(("submit", "read", "operate"))
READERS: frozenset[Role] = frozenset(("read", "operate"))
SUBMITTERS: frozenset[Role] = frozenset(("submit", "operate"))
OPEN: frozenset[Role] = frozenset()  # without a token


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `roles`: those of a token that may use it; none: no token is needed.

    `of_process`: its answer is about this process; a standby passes requests to all other routes on.
    """

    method: str
    path: str
    handler: Handler
    roles: frozenset[Role]
    of_process: bool = False


ROUTES = (
    Route("GET", "/", information.health, OPEN, True),  # Claude Code asks for it before its first request
    Route("GET", "/healthz", information.health, OPEN, True),
    Route("GET", "/readyz", information.readiness, OPEN, True),
    Route("GET", "/metrics", information.metrics, READERS, True),
    Route("POST", "/v1/chat/completions", generate.chat_completions, SUBMITTERS),
    Route("POST", "/v1/responses", generate.responses, SUBMITTERS),
    Route("POST", "/v1/embeddings", generate.embeddings, SUBMITTERS),
    Route("POST", "/v1/messages", generate.messages, SUBMITTERS),
    Route("POST", "/v1/messages/count_tokens", counting.count_tokens, SUBMITTERS),
    Route("GET", "/v1/tasks/{task_id}", tasks.task, EVERYONE),
    Route("GET", "/v1/models", information.models, EVERYONE),
    Route("GET", "/v1/models/{model:.+}", information.model, EVERYONE),
)
_ROLES = {route.handler: route.roles for route in ROUTES}
_OF_PROCESS = frozenset(route.handler for route in ROUTES if route.of_process)


def build_app(context: GatewayContext) -> web.Application:
    """The application over a context."""
    app = web.Application(middlewares=[_shield])
    app[CONTEXT] = context
    app[CONNECTIONS] = Connections(times=context.times)
    limits, access = context.settings.gateway, context.access
    app[BODIES] = Bodies(
        int(limits.max_body_mb * 1_000_000),
        int(limits.max_waiting_mb * 1_000_000),
        lambda: len(access.tokens) > 1,
    )
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler, expect_handler=_keep_waiting)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, route.handler)
    return app


async def _keep_waiting(_request: web.Request) -> None:
    """A client that waits for `100 Continue` sends its body after the checks; see `read_object`."""


@web.middleware
async def _shield(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[REQUEST_ID] = f"req_{secrets.token_hex(12)}"
    try:
        to_standby = has_key(request, request.app[CONTEXT].key)
        with request.app[CONNECTIONS].answering(request.protocol, to_standby=to_standby):
            answer = await _enter(request, handler)
    except (FormatError, RequestDeclined, ProviderError) as refused:
        answer = error_response(request, problem(refused))
    except web.HTTPException as other:  # of aiohttp's own: no such route or method
        answer = error_response(request, _routing_problem(request, other))
    except StoreError:
        unavailable = Problem(ProblemKind.UNAVAILABLE, "the database is unavailable", retry_after_s=1.0)
        answer = error_response(request, unavailable)
    except ConnectionError:  # the client has gone away; providers' and the store's are errors of their own
        raise
    except Exception as error:  # noqa: BLE001 - the one handler of what nothing expects
        # Without its message, which may quote the request.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("unexpected %s in the gateway\n%s", type(error).__name__, where)
        answer = error_response(request, Problem(ProblemKind.INTERNAL, "internal error; see the log"))
    finally:
        request.app[BODIES].release(request)
    if not answer.prepared:
        answer.headers.update(id_headers(request) | request.app[CONTEXT].guard.cors(request))
    return answer


async def _enter(request: web.Request, handler: Handler) -> web.StreamResponse:
    context = request.app[CONTEXT]
    context.guard.check_sender(request)
    if request.method == hdrs.METH_OPTIONS and hdrs.ORIGIN in request.headers:
        return web.Response(status=204, headers=context.guard.preflight(request))
    asked = request.match_info.handler
    roles = _ROLES.get(asked, EVERYONE)
    if roles:
        caller = context.guard.identify(request, context.clock.now())
        if caller.role not in roles:
            message = f"this token has the role {caller.role}; this needs {' or '.join(sorted(roles))}"
            raise FormatError(message, kind=ProblemKind.FORBIDDEN)
        request[CALLER] = caller
    if asked not in _ROLES or asked in _OF_PROCESS:
        return await handler(request)
    forwarder = context.passes_on
    if not forwarder.stands_by:
        try:
            return await handler(request)
        except NotServing as refusal:
            if refusal.may_be_billed:
                raise
    if comes_from_standby(request):
        return web.Response(status=MISDIRECTED)
    return await forwarder.forward(request)


def _routing_problem(request: web.Request, error: web.HTTPException) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(ProblemKind.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here; use {allowed}")
    if error.status == 404:
        known = ", ".join(f"{each.method} {each.path}" for each in ROUTES if each.path.count("{") == 0)
        return Problem(ProblemKind.NOT_FOUND, f"no such route; there are {known}")
    return Problem(ProblemKind.BAD_REQUEST, error.reason)
