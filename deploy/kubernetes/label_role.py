"""Labels its own pod `llm-orchestrator/role: leader` or `standby`, so that a Service can select the leader.

It asks the gateway beside it, which is ready where it leads, and patches the pod when that changes. Standard
library only.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.request
from pathlib import Path

EVERY_S = 1.0
TIMEOUT_S = 3.0
LABEL = "llm-orchestrator/role"
API = os.environ.get("KUBERNETES_API", "https://kubernetes.default.svc")
READY = os.environ.get("GATEWAY_READY", "http://127.0.0.1:5001/readyz")
ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))


def opener(certificate: Path | None) -> urllib.request.OpenerDirector:
    """For addresses in the cluster, which no proxy serves."""
    trusted = ssl.create_default_context(cafile=certificate)
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
    )


def role(gateway: urllib.request.OpenerDirector) -> str:
    """What the orchestrator of this pod is now."""
    try:
        with gateway.open(READY, timeout=TIMEOUT_S):
            return "leader"
    except OSError:  # no answer, or 503
        return "standby"


def label(api: urllib.request.OpenerDirector, found: str) -> None:
    """Raises OSError where the API does not take it."""
    pod = f"/api/v1/namespaces/{os.environ['POD_NAMESPACE']}/pods/{os.environ['POD_NAME']}"
    body = json.dumps({"metadata": {"labels": {LABEL: found}}}).encode()
    token = (ACCOUNT / "token").read_text().strip()  # the file is renewed
    headers = {"Content-Type": "application/merge-patch+json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(API + pod, body, headers, method="PATCH")  # noqa: S310  the cluster's own
    api.open(request, timeout=TIMEOUT_S).close()


def main() -> None:
    """Until it is killed."""
    gateway, api = opener(None), opener(ACCOUNT / "ca.crt" if API.startswith("https:") else None)
    labelled = ""
    while True:
        found = role(gateway)
        if found != labelled:
            try:
                label(api, found)
                labelled = found
            except OSError as error:  # tried again
                sys.stdout.write(json.dumps({"level": "warning", "message": f"no label: {error}"}) + "\n")
                sys.stdout.flush()
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
