"""Which nodes of a Ray cluster take part in a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightmatch.errors import import_optional, listed
from lightmatch.runtime.cluster.worker import Greeting

logger = logging.getLogger(__name__)

_LOOK_S = 2.0  # between two looks at which nodes there are
_GREET_S = 60.0  # that the first nodes have to answer; those that answer later take part then
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

    def __init__(self, shared: Sequence[Path], uses_gpus: bool, greet: Any) -> None:
        """shared: folders and files that every node must see under the same name; the first is to be written to.

        greet: `worker.greeting` as Ray's remote function.
        """
        self.shared = tuple(str(path.absolute()) for path in shared)  # as jobs name them
        self._uses_gpus = uses_gpus
        self._ray = import_optional("ray", "cluster")
        self._greet = greet
        self._there: dict[str, Node] = {}
        self._asked: dict[Any, tuple[Node, float]] = {}  # and when, by Ray's reference to the answer
        self._late: set[str] = set()  # nodes that a warning named
        self._refused: set[str] = set()
        self._looked = -_LOOK_S
        # A file in the first shared folder, while nodes are asked: who sees it sees the same folder, not another of
        # its name.
        self._mark = Path(self.shared[0]) / f".cluster-{uuid4().hex}" if self.shared else None

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

    def close(self) -> None:
        """Remove what was written for nodes that have not answered."""
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)

    def _look(self) -> None:
        """Ask who is there; new nodes are asked whether they can take part."""
        alive = {found["NodeID"]: found for found in self._ray.nodes() if found["Alive"]}
        for gone in self._there.keys() - alive.keys():
            logger.warning("%s left the cluster; what it worked on is done again", self._there.pop(gone).name)
        known = {*self._there, *self._refused, *(node.id for node, _ in self._asked.values())}
        for found in alive.values():
            node = self._node_of(found)
            if node.id in known or not node.cores:
                continue
            if self._uses_gpus and not node.gpus:
                self._refuse(node, "Ray finds no GPU there; with --device cpu all compute on CPUs")
            else:
                self._ask(node)
        if self._asked:
            self._hear()
        self._looked = time.monotonic()

    def _node_of(self, found: dict[str, Any]) -> Node:
        """What Ray says of a node."""
        return Node(
            found["NodeID"],
            f"{found['NodeManagerHostname']} (node {found['NodeID'][:6]})",
            int(found["Resources"].get("CPU", 0)),
            found["Resources"].get("GPU", 0.0) if self._uses_gpus else 0.0,
        )

    def _refuse(self, node: Node, reason: str) -> None:
        self._refused.add(node.id)
        logger.warning("%s takes no part: %s", node.name, reason)

    def _ask(self, node: Node) -> None:
        if self._mark is not None:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
        greet = self._greet.options(num_cpus=0, scheduling_strategy=node.affinity())
        answer = greet.remote(self.shared, None if self._mark is None else str(self._mark))
        self._asked[answer] = node, time.monotonic()

    def _hear(self) -> None:
        """Take the answers that are there; they are waited for only where no node takes part."""
        answers, wait_s = list(self._asked), 0.0 if self._there else _GREET_S
        ready, late = self._ray.wait(answers, num_returns=len(answers), timeout=wait_s)
        for answer in ready:
            node, _ = self._asked.pop(answer)
            reason = self._reason_against(answer)
            if reason is None:
                self._there[node.id] = node
            else:
                self._refuse(node, reason)
        for answer in late:
            node, since = self._asked[answer]
            if wait_s or time.monotonic() - since >= _GREET_S:
                del self._asked[answer]  # it is asked again at the next look
                if node.id not in self._late:
                    self._late.add(node.id)
                    logger.warning("%s did not answer within %.0f s; it takes part when it does", node.name, _GREET_S)
        if not self._asked:
            self.close()

    def _reason_against(self, answer: Any) -> str | None:
        """Why a node cannot take part; None where it can."""
        try:
            said: Greeting = self._ray.get(answer)
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
