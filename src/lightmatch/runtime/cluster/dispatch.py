"""Which item goes to which node, and what happens to those that a node does not finish."""

from __future__ import annotations

import logging
import time
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lightmatch.errors import ClusterError, import_optional
from lightmatch.runtime.cluster.nodes import Node, Nodes
from lightmatch.runtime.cluster.worker import Done
from lightmatch.runtime.files import is_disk_full

logger = logging.getLogger(__name__)

MOST_DEATHS = 3  # of processes that work on one item; then the item is taken for the cause

_NO_NODE_S = 60.0  # without a node that takes work, then the run ends
_LATE, _LATE_S = 4.0, 10.0  # times the usual, and seconds, after which an idle node does an item too
_BATCH_S, _MOST_IN_BATCH = 0.5, 32  # short items go to a node together
_WAIT_S = 1.0
_CANCEL_S = 20.0

Submit = Callable[[Node, bytes], Any]  # gives pickled items to a node; returns Ray's reference to what comes of them


@dataclass(frozen=True)
class _Attempt:
    """Items that were given to a node together."""

    numbers: tuple[int, ...]
    node: Node
    begun: float


class Dispatch:
    """The items of one call of `map`: those that wait, that nodes work on, and whose results are there."""

    def __init__(self, nodes: Nodes, submit: Submit, items: Sequence[Any], most: int, job: str) -> None:
        """most: items at a time on each node. job: its name, for warnings."""
        self._ray = import_optional("ray", "cluster")
        self._nodes, self._submit, self._items, self._most, self._job = nodes, submit, items, most, job
        self._waiting = deque(range(len(items)))
        self._attempts: dict[Any, _Attempt] = {}  # by Ray's reference
        self._results: dict[int, Any] = {}
        self._is_done = [False] * len(items)
        self._deaths: Counter[int] = Counter()
        self._seconds: list[float] = []  # of one item each, sorted
        self.worked_s = 0.0  # of all attempts that ended well
        self._slow: set[str] = set()  # nodes that a warning named
        self._alone_since: float | None = None  # without a node

    def results(self) -> Iterator[Any]:
        """In the order of the items. Raises what a job raised; ClusterError where nodes or processes failed."""
        for number in range(len(self._items)):
            self._go_on(wait_s=0.0)
            while number not in self._results:
                self._go_on(wait_s=_WAIT_S)
            yield self._results.pop(number)

    def cancel(self) -> None:
        """Stop what still runs, with its processes, and wait for their end: a long call does not heed a request."""
        running = list(self._attempts)
        for reference in running:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)
        if running:
            self._ray.wait(running, num_returns=len(running), timeout=_CANCEL_S)
        self._attempts.clear()

    def _go_on(self, wait_s: float) -> None:
        """Give work to nodes that have room, and take what is ready."""
        nodes = self._nodes.usable()
        self._check_that_some(nodes)
        for node in nodes:
            running = sum(attempt.node is node for attempt in self._attempts.values())
            for _ in range(node.slots(self._most) - running):
                if numbers := self._next(node):
                    items = self._ray.cloudpickle.dumps([self._items[number] for number in numbers])
                    self._attempts[self._submit(node, items)] = _Attempt(numbers, node, time.monotonic())
        if not self._attempts:
            time.sleep(min(wait_s, 0.2))
            return
        ready, _ = self._ray.wait(list(self._attempts), num_returns=1, timeout=wait_s)
        for reference in ready:
            self._take(self._attempts.pop(reference), reference)

    def _check_that_some(self, nodes: Sequence[Node]) -> None:
        if nodes or self._attempts:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > _NO_NODE_S:
            raise ClusterError(
                "expected a node of the cluster that takes work, there has been none for a minute; start one, and the"
                " same command again: it goes on where it was"
            )

    def _next(self, node: Node) -> tuple[int, ...]:
        """Items for a node: some that wait, or those that another has worked on for too long."""
        if not self._waiting:
            return self._late(node)
        cores = max(node.cores, sum(other.cores for other in self._nodes.all()))  # all may have left meanwhile
        share = len(self._waiting) // (4 * cores)  # the last go one by one
        short = _BATCH_S / max(self._usual(), 1e-4) if self._seconds else 1
        count = max(1, min(int(short), share, _MOST_IN_BATCH))
        return tuple(self._waiting.popleft() for _ in range(count))

    def _usual(self) -> float:
        """The median of the seconds that an item took: of a list kept sorted, for it is asked for at every task."""
        middle = len(self._seconds) // 2
        return (self._seconds[middle] + self._seconds[-middle - 1]) / 2

    def _late(self, node: Node) -> tuple[int, ...]:
        if not self._seconds:
            return ()
        tries = Counter(number for attempt in self._attempts.values() for number in attempt.numbers)
        for attempt in self._attempts.values():
            usual = self._usual() * len(attempt.numbers)
            taken = time.monotonic() - attempt.begun
            numbers = tuple(n for n in attempt.numbers if not self._is_done[n] and tries[n] == 1)
            if numbers and attempt.node is not node and taken > max(_LATE_S, _LATE * usual):
                if attempt.node.id not in self._slow:
                    self._slow.add(attempt.node.id)
                    logger.warning(
                        "%s is slow: %.0f s for %s so far, usual are %.1f s; %s does it too",
                        *(attempt.node.name, taken, self._named(attempt), usual, node.name),
                    )
                return numbers
        return ()

    def _take(self, attempt: _Attempt, reference: Any) -> None:
        """Keep the results of an attempt that ended, or let its items be done again."""
        errors, node = self._ray.exceptions, attempt.node
        try:
            done: Done = self._ray.get(reference)
        except errors.RayTaskError as failed:
            if not is_disk_full(failed.cause):
                raise failed.cause from failed
            node.is_full = True
            if all(other.is_full for other in self._nodes.all()):
                raise failed.cause from failed
            logger.warning("%s: its disk is full; its work goes to other nodes", node.name)
        except errors.RayError as lost:  # the process, or the node with it, in one of many ways
            node.rest()
            if self._nodes.is_there(node):
                self._count_deaths(attempt, lost)
        else:
            node.deaths = 0
            self._keep(attempt, done)
        self._waiting.extendleft(number for number in reversed(attempt.numbers) if self._is_lost(number))

    def _is_lost(self, number: int) -> bool:
        """Whether an item is neither done nor with another node."""
        return not self._is_done[number] and all(number not in other.numbers for other in self._attempts.values())

    def _keep(self, attempt: _Attempt, done: Done) -> None:
        insort(self._seconds, done.seconds / len(attempt.numbers))
        self.worked_s += done.seconds
        for name, level, message in done.warnings:
            logging.getLogger(name).log(level, "%s", message)
        for number, result in zip(attempt.numbers, self._ray.cloudpickle.loads(done.results), strict=True):
            if not self._is_done[number]:  # by another node meanwhile
                self._is_done[number] = True
                self._results[number] = result

    def _count_deaths(self, attempt: _Attempt, lost: Exception) -> None:
        said = f"{attempt.node.name}: a process died while it did {self._named(attempt)}"
        self._deaths.update(attempt.numbers)
        if max(self._deaths[number] for number in attempt.numbers) >= MOST_DEATHS:
            raise ClusterError(
                f"{said}, {MOST_DEATHS} times (killed, or out of memory); give the nodes more memory or fewer cores,"
                " and start the same command again"
            ) from lost
        logger.warning("%s (killed, or out of memory); it is done again", said)

    def _named(self, attempt: _Attempt) -> str:
        first, last = attempt.numbers[0] + 1, attempt.numbers[-1] + 1
        return f"{self._job} {first if first == last else f'{first}–{last}'} of {len(self._items)}"
