"""The manifests of deploy/kubernetes: they name what this program has, and fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from src.cli.app import cli
from src.config import OF_FILE, load_settings
from src.tokens import TOKENS_FILE
from tests.helpers import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
DOCUMENTS = [
    document
    for name in ("orchestrator.yaml", "monitoring.yaml")
    for document in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
]


def one(kind: str, name: str = "llm-orchestrator") -> Any:
    (found,) = [d for d in DOCUMENTS if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


POD = one("Deployment")["spec"]["template"]
CONTAINERS = {each["name"]: each for each in POD["spec"]["containers"]}
MAIN = CONTAINERS["orchestrator"]
LABELS = POD["metadata"]["labels"]


def test_what_selects_the_pods_selects_them() -> None:
    deployment, budget, policy = one("Deployment"), one("PodDisruptionBudget"), one("NetworkPolicy")
    assert deployment["spec"]["selector"]["matchLabels"] == LABELS
    assert budget["spec"]["selector"]["matchLabels"] == LABELS
    assert policy["spec"]["podSelector"]["matchLabels"] == LABELS
    for service in ("llm-orchestrator-gateway", "llm-orchestrator-pages"):
        assert LABELS.items() <= one("Service", service)["spec"]["selector"].items()
    monitored = one("ServiceMonitor")["spec"]
    pages = one("Service", "llm-orchestrator-pages")
    assert monitored["selector"]["matchLabels"].items() <= pages["metadata"]["labels"].items()
    assert monitored["endpoints"][0]["port"] in {port["name"] for port in pages["spec"]["ports"]}
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"], "a node can be drained"


def test_ports_are_those_that_the_program_listens_on() -> None:
    ports = {port["name"]: port["containerPort"] for port in MAIN["ports"]}
    settings = load_settings(environ={})
    assert ports == {"pages": settings.server.port, "gateway": settings.gateway.port}
    for service in ("gateway", "pages"):
        (port,) = one("Service", f"llm-orchestrator-{service}")["spec"]["ports"]
        assert port["targetPort"] == service and port["port"] == ports[service]
    named = [p["port"] for rule in one("NetworkPolicy")["spec"]["ingress"] for p in rule["ports"]]
    assert set(named) <= ports.keys()
    probes = {name: MAIN[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} <= ports.keys()
    assert {probe["path"] for probe in probes.values()} == {"/healthz", "/readyz"}


def test_the_configuration_and_the_arguments_are_the_programs_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(one("ConfigMap")["data"]["orchestrator.toml"])
    settings = load_settings(tmp_path / "own.toml", environ={})
    assert (settings.log_format, settings.server.host, settings.gateway.host) == (
        "json",
        "0.0.0.0",
        "0.0.0.0",
    )
    options = {option for parameter in cli.params for option in parameter.opts}
    assert set(MAIN["args"]) <= options and {"--standby", "--pages", "--yes"} <= set(MAIN["args"])
    grace_s = POD["spec"]["terminationGracePeriodSeconds"]
    assert grace_s >= settings.pool.shutdown_grace_s + 15.0


def test_secrets_come_by_reference_and_from_files_that_are_read_again() -> None:
    assert all(document["kind"] != "Secret" for document in DOCUMENTS)
    keys = {name for row in load_settings(environ={}).providers.values() for name in row.api_key_env}
    mounted = {mount["name"]: mount["mountPath"] for mount in MAIN["volumeMounts"]}
    given = {variable["name"]: variable for variable in MAIN["env"]}
    files = {name: variable["value"] for name, variable in given.items() if name.endswith(OF_FILE)}
    assert files.keys() - {TOKENS_FILE} <= {key + OF_FILE for key in keys} and TOKENS_FILE in files
    assert not keys & given.keys(), "a variable can't change while the program runs"
    assert all(value.startswith(f"{mounted['secrets']}/") for value in files.values())
    assert given["DATABASE_URL"]["valueFrom"]["secretKeyRef"]["name"] == "llm-orchestrator"
    (secrets,) = [volume["secret"] for volume in POD["spec"]["volumes"] if volume["name"] == "secrets"]
    assert not secrets["defaultMode"] & 0o027, "a file that others can read is refused"


def test_no_container_has_more_rights_than_it_needs() -> None:
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    image_user = next(
        line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("USER ")
    )
    assert POD["spec"]["securityContext"]["runAsUser"] == int(image_user)
    for container in CONTAINERS.values():
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False and rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= {
            volume["name"] for volume in POD["spec"]["volumes"]
        }


def test_a_standby_may_reach_the_leader() -> None:
    policy = one("NetworkPolicy")["spec"]
    own = {"podSelector": {"matchLabels": LABELS}}
    for rules, side in ((policy["ingress"], "from"), (policy["egress"], "to")):
        assert [{"port": "gateway"}] in [rule["ports"] for rule in rules if own in rule.get(side, [])]


def test_kustomize_finds_its_files() -> None:
    found = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    assert all((FOLDER / name).is_file() for name in found["resources"])
    known = {document["metadata"]["name"] for document in DOCUMENTS if document["kind"] == "ConfigMap"}
    used = {volume["configMap"]["name"] for volume in POD["spec"]["volumes"] if "configMap" in volume}
    assert used <= known


def test_the_documented_secret_has_every_entry_that_is_used() -> None:
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    files = [Path(v["value"]).name for v in MAIN["env"] if v["name"].endswith(OF_FILE)]
    entries = [
        *files,
        "database-url",
        one("ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]["key"],
    ]
    for entry in entries:
        assert f"--from-literal={entry}=" in text or f"--from-file={entry}" in text, entry
