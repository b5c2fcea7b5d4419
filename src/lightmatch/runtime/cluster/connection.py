"""The executor whose workers are the nodes of a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from lightmatch.errors import ClusterError, InvalidValueError, import_optional
from lightmatch.runtime.cluster.dispatch import Dispatch
from lightmatch.runtime.cluster.nodes import Node, Nodes
from lightmatch.runtime.cluster.worker import do, greeting
from lightmatch.runtime.threads import MOST_WORKERS

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

_CONNECT_S = 5.0


class RayCluster:
    """An executor (see `executor.Executor`) of the Ray cluster to which this process is connected.

    Nodes that join take part, those that leave are done without. A process that dies, a node that leaves or whose disk
    is full, and a slow one are named in warnings, and their items are done elsewhere. Where a result was made says
    nothing of it, except that CPUs of different kinds round differently.
    """

    def __init__(self, shared: Sequence[Path] = (), *, uses_gpus: bool = False) -> None:
        """shared: folders and files that every node must see under the same name; the first is to be written to.

        uses_gpus: jobs compute on GPUs; nodes without one take no part.
        """
        self._ray = import_optional("ray", "cluster")
        ours = {name: value for name, value in os.environ.items() if name.startswith("LIGHTMATCH_")}
        remote = self._ray.remote(max_retries=0, runtime_env={"env_vars": ours})
        self._do = remote(do)
        self._nodes = Nodes(shared, uses_gpus, remote(greeting))  # in the same environment, so in the same processes
        self._owner = uuid4().hex[:8]
        self.seconds: dict[str, float] = defaultdict(float)  # of processes on nodes, by the name of the job

    @property
    def nodes(self) -> list[Node]:
        """Those that take part at this moment."""
        return self._nodes.all()

    def map(self, job: Callable[[I], R], items: Iterable[I], most: int = MOST_WORKERS) -> Generator[R, None, None]:
        """As `Executor.map`; most: items worked on at a time on each node.

        Raises ClusterError where no node is left, or processes died again and again on one item.
        """
        pickled = [self._ray.put(self._ray.cloudpickle.dumps(job))]  # in a list, so that each process loads it once

        def submit(node: Node, some: bytes) -> Any:
            slots = node.slots(most)
            threads = node.cores // slots
            share = {"num_cpus": threads, "num_gpus": node.gpus / slots}
            task = self._do.options(scheduling_strategy=node.affinity(), **share)
            return task.remote(pickled, some, threads, self._owner)

        name = getattr(getattr(job, "func", job), "__name__", "job")
        dispatch = Dispatch(self._nodes, submit, list(items), most, name)
        try:
            yield from dispatch.results()
        finally:
            dispatch.cancel()
            self.seconds[name] += dispatch.worked_s

    def clear(self) -> None:
        """Remove what processes that were killed left half written in the first shared folder."""
        self._nodes.close()
        for folder in self._nodes.shared[:1]:
            for path in Path(folder).rglob(f"*.{self._owner}-*.partial"):
                path.unlink(missing_ok=True)


@contextmanager
def ray_cluster(address: str, shared: Sequence[Path], *, uses_gpus: bool = False) -> Generator[RayCluster]:
    """Connect to a Ray cluster, and leave it at the end. address: "auto", or host:port; the rest as for RayCluster.

    Raises InvalidValueError where there is no cluster, ClusterError where none of its nodes can take part.
    """
    ray = import_optional("ray", "cluster")
    try:
        if ":" in address:  # Ray itself tries for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidValueError(
            f"--cluster {address}: expected auto, or host:port of a Ray cluster, could not connect"
            f" ({str(error).strip().splitlines()[0]}); start one with: ray start --head"
        ) from error
    cluster: RayCluster | None = None
    try:
        cluster = RayCluster(shared, uses_gpus=uses_gpus)
        if not cluster.nodes:
            raise ClusterError("expected a node of the cluster that can take part, found none; see the warnings above")
        yield cluster
    finally:
        ray.shutdown()
        if cluster is not None:
            cluster.clear()  # after an error too, which is when processes are killed
