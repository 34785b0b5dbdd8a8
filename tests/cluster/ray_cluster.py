"""A Ray cluster on loopback, in an environment with Ray: made once, in a folder that lasts.

python -m tests.cluster.ray_cluster     makes that environment now

Ray wants the address of a network card. With `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0` it takes 127.0.0.1 as on
a laptop, and listens there alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.helpers import ROOT, child_environment

LOCK = ROOT / "requirements" / "ray.lock"
READY_S = 120.0
TOKEN = "a-token-of-the-test-cluster-0123456789"
STORE_BYTES = 80_000_000  # the least that Ray takes is 75 MB


def ray_python() -> Path:
    """The Python of an environment with what `ray.lock` says, beside the packages of this one.

    Processes that want it at the same time wait for the one that makes it.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(cache) if cache else Path.home() / ".cache") / "agent-orchestrator-tests"
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    made = folder / f"ray-{digest}"
    python = made / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "installed").exists():
            for old in folder.glob("ray-*"):
                shutil.rmtree(old, ignore_errors=True)
            venv.create(made, with_pip=False, clear=True)
            pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
            options = ["--quiet", "--no-compile", "--require-hashes", "-r", str(LOCK)]
            subprocess.run([*pip, "install", *options], check=True, timeout=600)
            (made / "installed").touch()
    return python


def ray_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What processes of the cluster, and the leader, have in their environment."""
    packages = [str(ROOT), str(ROOT / "tests" / "child_site"), *(p for p in sys.path if "site-packages" in p)]
    return {
        **child_environment(),
        "PYTHONPATH": os.pathsep.join(packages),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # 15 without it: beside a busy test no worker would start in time
        **extra,
    }


def free_port() -> int:
    """A port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RayCluster:
    """A head that offers `workers` workers. `environ` is that of its node, and so of its workers.

    With `redis` (HOST:PORT) it keeps its state there, and a new head goes on where the old one was.
    """

    def __init__(self, environ: Mapping[str, str], *, workers: int = 3, redis: str = "") -> None:
        self._python, self._workers = ray_python(), workers
        self._head: list[str] = []
        self._restarted: subprocess.Popen[bytes] | None = None
        self.port, self._client_port = free_port(), free_port()
        self._temp = Path(tempfile.mkdtemp(prefix="ray-"))  # short: the path of a socket has 107 characters
        own = {"RAY_REDIS_ADDRESS": redis, "RAY_external_storage_namespace": self._temp.name} if redis else {}
        self.environ = ray_environment({**environ, **own})

    @property
    def address(self) -> str:
        """HOST:PORT of its head."""
        return f"127.0.0.1:{self.port}"

    @property
    def python(self) -> Path:
        """The Python that has Ray."""
        return self._python

    def start(self) -> None:
        """Start the head, and return when it is ready."""
        offered = json.dumps({"orchestrator_worker": self._workers})
        options = [
            "--head", "--node-ip-address=127.0.0.1", f"--port={self.port}", "--include-dashboard=false",
            f"--ray-client-server-port={self._client_port}", "--num-cpus=0", f"--resources={offered}",
            f"--object-store-memory={STORE_BYTES}", f"--temp-dir={self._temp}", "--disable-usage-stats",
            "--include-log-monitor=false",
        ]  # fmt: skip
        command = [str(self._python), "-m", "ray.scripts.scripts", "start", *options]
        done = subprocess.run(
            command, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=READY_S, check=False, cwd=self._temp,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]

    def worker_pids(self) -> list[int]:
        """The processes of workers, oldest first."""
        found = [pid for pid, line in self._processes() if line.startswith("ray::RayWorker")]
        return sorted(found)

    def end_workers(self) -> None:
        """Kill all workers, with what they hold, so that their places are free."""
        while pids := self.worker_pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def kill_head(self) -> None:
        """End the control service as a power cut does. `restart_head` starts it again."""
        [pid] = [pid for pid, line in self._processes() if "gcs_server" in line.partition(" ")[0]]
        self._head = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        os.kill(pid, signal.SIGKILL)

    def restart_head(self) -> None:
        """The same control service again, with what it finds in Redis, or with nothing."""
        with (self._temp / "head.txt").open("wb") as output:
            self._restarted = subprocess.Popen(
                self._head, env=self.environ, cwd=self._temp, stdout=output, stderr=output
            )

    def logs(self) -> Path:
        """Where Ray puts the output of its processes."""
        return self._temp / "session_latest" / "logs"

    def _processes(self) -> list[tuple[int, str]]:
        """`(pid, command line)` of all of the cluster: those that name its folder, and their children."""
        lines: dict[int, str] = {}
        parents: dict[int, int] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with suppress(OSError):
                lines[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                )
                status = (folder / "stat").read_text()
                parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
        own = {pid for pid, line in lines.items() if str(self._temp) in line}
        return [(pid, line) for pid, line in lines.items() if pid in own or parents.get(pid) in own]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        shutil.rmtree(self._temp, ignore_errors=True)

    def stop(self) -> None:
        """End every process of it."""
        end = time.monotonic() + 10
        while (left := self._processes()) and time.monotonic() < end:
            for pid, _ in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._restarted is not None:
                self._restarted.wait()
            time.sleep(0.1)


@contextmanager
def redis_server() -> Iterator[str]:
    """HOST:PORT of a Redis of its own, or of the machine's where there is no program to start one."""
    program = shutil.which("redis-server")
    if program is None:
        yield "127.0.0.1:6379"
        return
    port = free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        child = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(child.wait)
        stack.callback(child.kill)
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, "Redis does not start"
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"


if __name__ == "__main__":
    ray_python()
