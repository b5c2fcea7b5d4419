"""Which nodes of a Ray cluster take part in a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightmatch.errors import import_optional, listed
from lightmatch.runtime.cluster.worker import Greeting, greeting

logger = logging.getLogger(__name__)

_LOOK_S = 2.0  # between two looks at which nodes there are
_GREET_S = 60.0  # that a new node has to answer
_LONGEST_REST_S = 30.0


@dataclass(eq=False)
class Node:
    """A node that takes part."""

    id: str
    name: str
    cores: int
    gpus: float  # 0 where jobs do not compute on them
    is_full: bool = False  # its disk
    rests_until: float = 0.0
    deaths: int = 0  # of processes, one after the other

    def slots(self, most: int) -> int:
        """How many items it works on at a time, `most` on each GPU; they share its cores."""
        return max(1, min(self.cores, most * max(1, int(self.gpus))))

    def rest(self) -> None:
        """Give it no work for a while: a process died there, and perhaps the whole node does."""
        self.deaths += 1
        self.rests_until = time.monotonic() + min(2.0**self.deaths, _LONGEST_REST_S)

    def affinity(self) -> Any:
        """Ray's word for: on this node, or not at all."""
        return _affinity(self.id)


class Nodes:
    """The nodes of the cluster this process is connected to, as they come and go."""

    def __init__(self, shared: Sequence[Path], uses_gpus: bool) -> None:
        """shared: folders and files that every node must see under the same name; the first is to be written to."""
        self.shared = tuple(str(path.absolute()) for path in shared)  # as jobs name them
        self._uses_gpus = uses_gpus
        self._ray = import_optional("ray", "cluster")
        self._greet = self._ray.remote(max_retries=0, num_cpus=0)(greeting)
        self._there: dict[str, Node] = {}
        self._refused: set[str] = set()
        self._looked = -_LOOK_S

    def all(self) -> list[Node]:
        """Those that take part."""
        if time.monotonic() - self._looked >= _LOOK_S:
            self._look()
        return list(self._there.values())

    def usable(self) -> list[Node]:
        """Those that can be given work at this moment."""
        now = time.monotonic()
        return [node for node in self.all() if not node.is_full and node.rests_until <= now]

    def is_there(self, node: Node) -> bool:
        """Whether a node is known to be part of the cluster at this moment."""
        self._look()
        return node.id in self._there

    def _look(self) -> None:
        """Ask who is there; new nodes are asked whether they can take part."""
        self._looked = time.monotonic()
        alive = {found["NodeID"]: found for found in self._ray.nodes() if found["Alive"]}
        for gone in self._there.keys() - alive.keys():
            logger.warning("%s left the cluster; what it worked on is done again", self._there.pop(gone).name)
        needed = {"CPU": 1, "GPU": 1e-3 if self._uses_gpus else 0}
        self._ask(
            [
                found
                for number, found in alive.items()
                if number not in self._there
                and number not in self._refused
                and all(found["Resources"].get(kind, 0) >= least for kind, least in needed.items())
            ]
        )

    def _ask(self, found: Sequence[dict[str, Any]]) -> None:
        if not found:
            return
        with _mark(self.shared) as mark:
            answers = [
                self._greet.options(scheduling_strategy=_affinity(one["NodeID"])).remote(self.shared, mark)
                for one in found
            ]
            for one, answer in zip(found, answers, strict=True):
                node = Node(
                    one["NodeID"],
                    f"{one['NodeManagerHostname']} (node {one['NodeID'][:6]})",
                    int(one["Resources"]["CPU"]),
                    one["Resources"].get("GPU", 0.0) if self._uses_gpus else 0.0,
                )
                reason = self._reason_against(answer)
                if reason is None:
                    self._there[node.id] = node
                else:
                    self._refused.add(node.id)
                    logger.warning("%s takes no part: %s", node.name, reason)

    def _reason_against(self, answer: Any) -> str | None:
        """Why a node cannot take part; None where it can."""
        try:
            said: Greeting = self._ray.get(answer, timeout=_GREET_S)
        except self._ray.exceptions.GetTimeoutError:
            return f"it did not answer within {_GREET_S:.0f} s"
        except self._ray.exceptions.RayError as error:
            return f"it cannot run lightmatch ({str(error).strip().splitlines()[-1]}); install it there"
        if said.lightmatch != version("lightmatch"):
            return f"it has lightmatch {said.lightmatch}, not {version('lightmatch')} as here; install the same"
        if said.missing:
            return f"it does not see {listed(said.missing)}; mount it there under the same name"
        return None


def _affinity(number: str) -> Any:
    strategies = import_optional("ray.util.scheduling_strategies", "cluster")
    return strategies.NodeAffinitySchedulingStrategy(number, soft=False)


@contextmanager
def _mark(shared: Sequence[str]) -> Iterator[str | None]:
    """A file in the first shared folder: who sees it sees the same folder, not another of its name."""
    if not shared:
        yield None
        return
    path = Path(shared[0]) / f".cluster-{uuid4().hex}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)
