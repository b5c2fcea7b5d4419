"""A real Ray cluster of several nodes on this machine, each a group of processes that can be killed."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import ray

from lightmatch.runtime.cluster import RayCluster


class LocalRay:
    """A head without cores, and nodes with one core each."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: names of sockets have 107 bytes
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._processes: list[subprocess.Popen[bytes]] = []
        port = self.address.rpartition(":")[2]
        self._start(
            "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.folder}"
        )
        self.wait_for(0)

    def add(self, *before: str) -> subprocess.Popen[bytes]:
        """A node more. before: the command that runs it, such as unshare."""
        number = self.num_nodes()
        process = self._start(f"--address={self.address}", "--num-cpus=1", before=before)
        self.wait_for(number + 1)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Everything of a node at once, as when its machine loses power."""
        tree = psutil.Process(process.pid)
        for part in (*tree.children(recursive=True), tree):
            with suppress(psutil.NoSuchProcess):
                part.kill()
        process.wait()

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                self.kill(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def num_nodes(self) -> int:
        """Nodes with a core."""
        return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())

    def wait_for(self, number: int) -> None:
        """Connect, and wait until there are that many nodes."""
        for _ in range(120):
            try:
                if not ray.is_initialized():
                    ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
                if self.num_nodes() == number:
                    return
            except ConnectionError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"expected {number} nodes")

    def _start(self, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        tool = str(Path(sys.executable).with_name("ray"))
        command = [*before, tool, "start", *options, "--object-store-memory=100000000", "--block"]
        environment = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",  # a token that Ray once made here would keep this process out
            "RAY_health_check_period_ms": "1000",  # a dead node is missed after three seconds instead of fifteen
            "RAY_health_check_failure_threshold": "3",
            "PYTHONPATH": str(Path(__file__).parent),
        }
        process = subprocess.Popen(
            command, start_new_session=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._processes.append(process)
        return process


def names(cluster: RayCluster) -> set[str]:
    return {node.name for node in cluster.nodes}
