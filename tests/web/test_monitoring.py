"""Alerts and dashboard of deploy/kubernetes: they ask for what `/metrics` has, and fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families as read_text

from src.records import Outcome
from tests.helpers import ROOT

from .test_metrics import LABELS

FOLDER = ROOT / "deploy" / "kubernetes"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
DOCUMENTS = list(yaml.safe_load_all((FOLDER / "monitoring.yaml").read_text(encoding="utf-8")))
SPEC = next(each["spec"] for each in DOCUMENTS if each["kind"] == "PrometheusRule")
RULES = {rule["alert"]: rule for group in SPEC["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
PROMTOOL = shutil.which("promtool")

_METRIC = re.compile(r"\borchestrator_\w+")
_MATCHERS = re.compile(r"(\borchestrator_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=|!=|=~|!~)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
OF_PROMETHEUS = {"instance", "pod", "job"}


def queries() -> Iterator[tuple[str, str]]:
    """`(where, expression)` of each alert and panel."""
    for name, rule in RULES.items():
        yield name, rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


QUERIES = dict(queries())


def family_of(sample: str) -> str:
    return re.sub(r"_(total|bucket|sum|count|info)$", "", sample)


@pytest.mark.parametrize("where", QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_exist(where: str, client: FlaskClient) -> None:
    query = QUERIES[where]
    families = list(read_text(client.get("/metrics").text))
    exposed = {sample.name for family in families for sample in family.samples} | {
        f"{family.name}_total" if family.type == "counter" else family.name for family in families
    }
    asked = set(_METRIC.findall(query))
    assert asked and asked <= exposed
    labels = set().union(*(LABELS[family_of(name)] for name in asked))
    named = {label.strip() for group in _GROUPING.findall(query) for label in group.split(",")}
    assert named - {""} <= labels | OF_PROMETHEUS
    for name, matchers in _MATCHERS.findall(query):
        for label, wanted in _MATCHER.findall(matchers):
            assert label in LABELS[family_of(name)]
            if label == "outcome":
                assert wanted in set(Outcome)


@pytest.mark.parametrize("where", QUERIES)
def test_a_query_counts_no_figure_twice_where_two_pods_show_it(where: str) -> None:
    """Each pod exposes the figures of one database: the largest or smallest of them counts, never the sum."""
    query = QUERIES[where]
    for found in _METRIC.finditer(query):
        before = query[: found.start()].rstrip("(").rstrip()
        before = re.sub(r"\b(rate|increase)$", "", before).rstrip("(").rstrip()
        before = re.sub(r"\bby\s*\([^)]*\)$", "", before).rstrip()
        assert before.endswith(("max", "min", "absent")), found[0]


# ------------------------------------------------------------------ runbook


def test_each_alert_leads_to_its_section_and_each_section_to_its_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK, re.M)
    assert sections == list(RULES)
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
    for name in re.findall(r"\]\(#(\w+)\)", RUNBOOK):
        assert name in {each.lower() for each in RULES}


def test_each_section_says_what_it_means_and_what_to_do() -> None:
    for section in re.split(r"^## ", RUNBOOK, flags=re.M)[1:]:
        name, _, text = section.partition("\n")
        assert re.match(r"\n\S.*\n\n1\. ", text), name


def test_the_dashboard_has_a_panel_for_each_metric() -> None:
    shown = {family_of(name) for query in QUERIES.values() for name in _METRIC.findall(query)}
    assert {name for name in LABELS if name not in shown} == {"orchestrator_leader", "orchestrator_build"}
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


# ------------------------------------------------------------------ Prometheus itself

CALLS = 'orchestrator_calls_total{provider="openai",model="m",outcome="%s",pod="%s"}'
OK = {CALLS % ("ok", pod): "0+60x120" for pod in "ab"}
RUNS = {'orchestrator_running{pod="a"}': "1x120", 'orchestrator_running{pod="b"}': "1x120"}
SECONDS = 'orchestrator_call_duration_seconds_bucket{provider="openai",model="m",le="%s"}'
ROWS = 'orchestrator_provider_batch_rows_total{provider="openai",result="%s"}'
WAITS = 'orchestrator_queue_wait_seconds_bucket{le="%s"}'
# Alert -> series under which it fires.
FIRING: Mapping[str, Mapping[str, str]] = {
    "OrchestratorNotScraped": {"up": "1x120"},
    "OrchestratorDown": {'orchestrator_running{pod="a"}': "0x120", 'orchestrator_running{pod="b"}': "0x120"},
    "OrchestratorStalled": {
        **RUNS,
        'orchestrator_tasks_waiting{reason="queued"}': "7x120",
        CALLS % ("ok", "a"): "9x120",
    },
    "AllProvidersDown": {'orchestrator_breaker_open{provider="openai"}': "1x120"},
    "ProviderDown": {
        'orchestrator_breaker_open{provider="openai"}': "1x120",
        'orchestrator_breaker_open{provider="gemini"}': "0x120",
    },
    "CallsFail": {**OK, CALLS % ("failed", "a"): "0+20x120", CALLS % ("failed", "b"): "0+20x120"},
    "AnswersSlow": {SECONDS % "60": "0+10x120", SECONDS % "120": "0+20x120", SECONDS % "+Inf": "0+20x120"},
    "QueueSlow": {WAITS % "600": "0+10x120", WAITS % "1200": "0+20x120", WAITS % "+Inf": "0+20x120"},
    "LimitReached": {
        'orchestrator_limit_used_ratio{provider="openai",dimension="requests_per_minute"}': "0.99x120"
    },
    "BudgetNearlySpent": {'orchestrator_budget_remaining_usd{budget="all:daily"}': "4x120"},
    "UncertainCost": {'orchestrator_uncertain_cost_usd_total{provider="openai"}': "0+0.1x120"},
    "ProviderBatchLate": {'orchestrator_provider_batch_age_seconds{provider="openai"}': "9000+60x120"},
    "ProviderBatchExpired": {ROWS % "expired": "0+1x120"},
}
CALM = {
    **RUNS,
    **OK,
    'orchestrator_tasks_waiting{reason="queued"}': "7x120",
    CALLS % ("failed", "a"): "0+1x120",
    'orchestrator_breaker_open{provider="openai"}': "0x120",
    SECONDS % "60": "0+20x120",
    SECONDS % "+Inf": "0+20x120",
    WAITS % "600": "0+20x120",
    WAITS % "+Inf": "0+20x120",
    'orchestrator_limit_used_ratio{provider="openai",dimension="requests_per_minute"}': "0.5x120",
    'orchestrator_budget_remaining_usd{budget="all:daily"}': "40x120",
    'orchestrator_uncertain_cost_usd_total{provider="openai"}': "0+0.001x120",
    'orchestrator_provider_batch_age_seconds{provider="openai"}': "60+60x120",
    ROWS % "expired": "0x120",
    ROWS % "answered": "0+60x120",
}


def test_every_alert_is_tried() -> None:
    assert set(FIRING) == set(RULES)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_prometheus_fires_each_alert_on_its_series_and_none_in_calm(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(SPEC))

    def trial(series: Mapping[str, str], alerts: Mapping[str, bool]) -> dict[str, Any]:
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                    "eval_time": "100m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
                for name, fires in alerts.items()
            ],
        }

    trials = [trial(series, {name: True}) for name, series in FIRING.items()]
    trials.append(trial(CALM, dict.fromkeys(RULES, False)))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": trials}))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]):
        done = subprocess.run([str(PROMTOOL), *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
