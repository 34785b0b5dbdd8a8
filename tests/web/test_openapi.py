"""The OpenAPI document, and requests that schemathesis makes from it, to a running server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from src.core.store import Store
from src.web import create_app
from src.web.bodies import RebalanceBody, TaskFilter
from src.web.context import AppContext
from src.web.openapi import DOCUMENTED_METHODS, documented_rules
from src.web.operations import OPERATIONS
from src.web.serving import make_server

from .conftest import copy_of
from .filled import FilledState, served

EXAMPLES = 12  # for each operation, as often with values that the document forbids
NOT_CHECKED = [
    positive_data_acceptance
]  # a schema can't say which fields go together, or what a name may hold
NOT_DOCUMENTED = "the route is not in `OPERATIONS` of src/web/operations.py"


def described(client: FlaskClient) -> Any:
    return client.get("/api/openapi.json").json


def test_every_route_for_programs_is_in_the_document(app: Flask, client: FlaskClient) -> None:
    paths = described(client)["paths"]
    rules = list(documented_rules(app))
    assert {rule.endpoint for rule in rules} == set(OPERATIONS), NOT_DOCUMENTED
    for rule in rules:
        assert rule.rule.startswith("/api/") == (rule.endpoint.split(".")[0] == "api")
        path = rule.rule
        for name in rule.arguments:
            (variable,) = (part for part in path.split("/") if part.endswith(f"{name}>"))
            path = path.replace(variable, f"{{{name}}}")
        for method in DOCUMENTED_METHODS & (rule.methods or set()):
            entry = paths[path][method.lower()]
            known = OPERATIONS[rule.endpoint]
            assert {str(status) for status in (*known.statuses, *known.errors)} <= set(entry["responses"])
            assert entry["summary"]
            assert {each["name"] for each in entry["parameters"] if each["in"] == "path"} == rule.arguments


def test_the_document_has_the_models_that_the_views_use(client: FlaskClient) -> None:
    document = described(client)
    schemas = document["components"]["schemas"]
    assert set(schemas["RebalanceBody"]["properties"]) == set(RebalanceBody.model_fields)
    query = {each["name"] for each in document["paths"]["/api/tasks"]["get"]["parameters"]}
    assert query == set(TaskFilter.model_fields)
    assert "cost_usd" in schemas["Totals"]["properties"], "amounts are in USD"
    submitted = schemas["Submitted"]
    assert set(submitted["properties"]) - set(submitted["required"]) == {"task", "tasks", "waited"}
    verb = next(
        each
        for each in document["paths"]["/api/providers/{name}/{verb}"]["post"]["parameters"]
        if each["name"] == "verb"
    )
    assert verb["schema"] == {"type": "string", "enum": ["pause", "resume", "reset"]}


# ------------------------------------------------------------------ schemathesis


@pytest.fixture(scope="module")
def schema(_original: FilledState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a running server over a filled store; no orchestrator takes its tasks."""
    filled = copy_of(_original, tmp_path_factory.mktemp("described") / "state")
    with served(filled.database), Store.open(filled.database, simulated=True) as store:
        app = create_app(AppContext(filled.settings, store, simulated=True))
        server: Any = make_server(app, [("127.0.0.1", 0)], threads=4)
        thread = threading.Thread(target=server.run)
        thread.start()
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{server.effective_port}/api/openapi.json")
        server.close()
        server.task_dispatcher.shutdown()
        thread.join(10)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
def test_every_answer_is_as_the_document_says(
    mode: GenerationMode, schema: Any, subtests: pytest.Subtests
) -> None:
    """Its status is documented and no 5xx, and its body has the shape; wrong requests are refused."""
    for each in schema.get_all_operations():
        operation = each.ok()
        with subtests.test(operation.label), suppress(Unsatisfiable):  # with nothing to get wrong in it
            is_down = operation.label in ("GET /leader", "GET /readyz")  # its 503 is an answer
            _call(operation.as_strategy(generation_mode=mode), NOT_CHECKED + [not_a_server_error] * is_down)


def _call(cases: SearchStrategy[schemathesis.Case], not_checked: list[Any]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def call(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("wait_s"), float | int):
            case.body["wait_s"] = min(case.body["wait_s"], 0.01)
        case.call_and_validate(timeout=20, excluded_checks=not_checked)

    call()
