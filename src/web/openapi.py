"""`/api/openapi.json`: the API for programs that read OpenAPI 3.1.

It is made of what answers the requests: the routes, the first line of each view's docstring, the pydantic
models of bodies and queries, and the types of the answers, which `operations` names for each route.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, Literal, NotRequired

from flask import Flask
from pydantic import BaseModel
from werkzeug.routing import Rule

from .operations import OPERATIONS, Operation
from .roles import OPEN_ENDPOINTS

Schema = dict[str, Any]
REFS = "#/components/schemas/"
LISTS_IN_QUERY = ("by",)  # separated by commas
_VARIABLE = re.compile(r"<(?:any\(([^)]*)\):)?(\w+)>")  # of a route, with its choices
DOCUMENTED_METHODS = frozenset({"GET", "POST"})
_SIMPLE: Mapping[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
}
ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "details": {"type": "object"},
            },
        }
    },
}
_BY_ALL = (HTTPStatus.MISDIRECTED_REQUEST,)
_BEHIND_A_TOKEN = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.UNPROCESSABLE_ENTITY,  # text that the database does not take, in any query
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_OF_A_BODY = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)


def documented_rules(app: Flask) -> Iterator[Rule]:
    """The routes for programs: the API, and the addresses for monitoring."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.split(".")[0] in ("api", "health", "metrics"):
            yield rule


def document(app: Flask, version: str) -> Schema:
    """The OpenAPI document of `app`."""
    components: Schema = {"Error": ERROR}
    paths: dict[str, Schema] = {}
    for rule in documented_rules(app):
        for method in sorted(DOCUMENTED_METHODS & (rule.methods or set())):
            entry = _entry(app, rule, components)
            entry["operationId"] = f"{rule.endpoint.partition('.')[2]}_{method.lower()}"
            paths.setdefault(_path_of(rule), {})[method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": "Agent orchestrator", "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _path_of(rule: Rule) -> str:
    return _VARIABLE.sub(r"{\2}", rule.rule)


def _entry(app: Flask, rule: Rule, components: Schema) -> Schema:
    view = app.view_functions[rule.endpoint]
    known = OPERATIONS.get(rule.endpoint, Operation())
    entry: Schema = {
        "summary": (view.__doc__ or "").split("\n")[0],
        "tags": [rule.endpoint.split(".")[0]],
        "parameters": [*_path_parameters(rule), *_query_parameters(known, components)],
        "responses": _responses(rule, known, components),
    }
    if known.bodies:
        choices = [_of_model(model, components) for model in known.bodies]
        schema = choices[0] if len(choices) == 1 else {"anyOf": choices}
        entry["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if rule.endpoint not in OPEN_ENDPOINTS:
        entry["security"] = [{}, {"token": []}]  # without tokens, this machine needs none
    return entry


def _path_parameters(rule: Rule) -> Iterator[Schema]:
    for choices, name in _VARIABLE.findall(rule.rule):
        schema: Schema = {"type": "string", "minLength": 1}
        if choices:
            schema = {"type": "string", "enum": choices.split(", ")}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(known: Operation, components: Schema) -> Iterator[Schema]:
    if known.query is None:
        return
    for name, schema in _model_schema(known.query, components)["properties"].items():
        schema = _without_null(schema)
        parameter = {"name": name, "in": "query", "required": False, "schema": schema}
        if name in LISTS_IN_QUERY:
            parameter |= {"style": "form", "explode": False}
        yield parameter


def _without_null(schema: Schema) -> Schema:
    """A query leaves a value out, where JSON has null."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    found = {name: value for name, value in schema.items() if name not in ("anyOf", "default", "title")}
    return found | ({} if not kinds else kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _responses(rule: Rule, known: Operation, components: Schema) -> Schema:
    schema = schema_of(known.answer, components) if known.answer is not None else {}
    if known.kind != "application/json":
        schema = {"type": "string"}
    found: Schema = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {known.kind: {"schema": schema}},
        }
        for status in known.statuses
    }
    if known.is_conditional:
        found["304"] = {"description": HTTPStatus.NOT_MODIFIED.phrase}
    for status in sorted(set(_errors(rule, known)) - set(known.statuses)):
        content = {"application/json": {"schema": {"$ref": f"{REFS}Error"}}}
        found[str(int(status))] = {"description": HTTPStatus(status).phrase, "content": content}
    return found


def _errors(rule: Rule, known: Operation) -> Iterator[int]:
    yield from known.errors
    yield from _BY_ALL
    if rule.endpoint not in OPEN_ENDPOINTS:
        yield from _BEHIND_A_TOKEN
    if rule.arguments or known.bodies:
        yield HTTPStatus.NOT_FOUND
    if "POST" in (rule.methods or ()):
        yield from _OF_A_BODY
    if "<any(" in rule.rule:  # another word there may be part of an address that is only read
        yield HTTPStatus.METHOD_NOT_ALLOWED


# ------------------------------------------------------------------ schemas


def _of_model(model: type[BaseModel], components: Schema) -> Schema:
    components[model.__name__] = _model_schema(model, components)
    return {"$ref": f"{REFS}{model.__name__}"}


def _model_schema(model: type[BaseModel], components: Schema) -> Schema:
    schema = model.model_json_schema(ref_template=f"{REFS}{{model}}")
    components |= schema.pop("$defs", {})
    return schema


def schema_of(kind: Any, components: Schema) -> Schema:
    """The schema of what `presenters.as_json` makes of a value of this type."""
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.NotRequired, typing.Annotated):
        return schema_of(arguments[0], components)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [schema_of(each, components) for each in arguments]}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1], components)}
    if origin is not None:  # a sequence of one type
        return {"type": "array", "items": schema_of(arguments[0], components)}
    if issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    name: str = kind.__name__
    if name not in components:
        components[name] = {}  # it may hold itself
        components[name] = _object(kind, components)
    return {"$ref": f"{REFS}{name}"}


def _object(kind: Any, components: Schema) -> Schema:
    """Of a dataclass, or a TypedDict. Amounts in `*_nanos` of a dataclass are USD in JSON."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        names = [each.name for each in dataclasses.fields(kind)]
        fields = {name: schema_of(hints[name], components) for name in names}
        fields = dict(_in_usd(name, schema) for name, schema in fields.items())
        required = list(fields)
    else:
        fields = {name: schema_of(hint, components) for name, hint in hints.items()}
        # `__required_keys__` does not see through annotations that are evaluated late.
        required = sorted(name for name, hint in hints.items() if typing.get_origin(hint) is not NotRequired)
    text = {"description": kind.__doc__.split("\n")[0]} if kind.__doc__ else {}
    return {"type": "object", **text, "properties": fields, "required": required}


def _in_usd(name: str, schema: Schema) -> tuple[str, Schema]:
    if not name.endswith("_nanos"):
        return name, schema
    number: Schema = {"type": "number"}
    nullable = {"type": "null"} in schema.get("anyOf", ())
    return name.removesuffix("_nanos") + "_usd", {"anyOf": [number, {"type": "null"}]} if nullable else number
