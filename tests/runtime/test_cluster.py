"""A real Ray cluster: results in order, and what happens when processes, nodes and disks fail."""

import errno
import logging
import os
import pickle
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")

from local_ray import LocalRay  # noqa: E402

from lightmatch.errors import ClusterError, InvalidValueError  # noqa: E402
from lightmatch.runtime.cluster import RayCluster, dispatch, ray_cluster  # noqa: E402
from lightmatch.runtime.cluster.nodes import Node, Nodes  # noqa: E402
from lightmatch.runtime.cluster.worker import Greeting, greeting  # noqa: E402
from lightmatch.runtime.threads import num_threads  # noqa: E402


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalRay]:
    local = LocalRay()
    try:
        local.add()
        local.add()
        yield local
    finally:
        ray.shutdown()
        local.stop()


@pytest.fixture
def cluster(nodes: LocalRay, tmp_path: Path) -> RayCluster:
    return RayCluster([tmp_path])


def here() -> str:
    return ray.get_runtime_context().get_node_id()


def late_first(number: int) -> tuple[int, str]:
    time.sleep(0.5 if number == 0 else 0.1)
    return number**2, here()


def test_results_are_in_order_and_from_all_nodes(cluster: RayCluster) -> None:
    found = list(cluster.map(late_first, range(20)))
    assert [square for square, _ in found] == [number**2 for number in range(20)]
    assert {node for _, node in found} == {node.id for node in cluster.nodes} and len(cluster.nodes) == 2
    assert 2.4 <= cluster.seconds["late_first"] < 5


def test_nothing_is_nothing(cluster: RayCluster) -> None:
    assert list(cluster.map(late_first, [])) == []


def test_a_job_has_the_cores_of_its_node(cluster: RayCluster) -> None:
    assert list(cluster.map(lambda number: num_threads(), range(2))) == [1, 1]


def test_short_items_go_to_a_node_together(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def counting(nodes: Nodes, submit: dispatch.Submit, items: list[int], most: int, job: str) -> dispatch.Dispatch:
        def counted(node: Node, some: bytes) -> object:
            sizes.append(len(pickle.loads(some)))
            return submit(node, some)

        return dispatch.Dispatch(nodes, counted, items, most, job)

    monkeypatch.setattr("lightmatch.runtime.cluster.connection.Dispatch", counting)
    assert list(cluster.map(abs, range(600))) == list(range(600))
    assert sum(sizes) >= 600 and max(sizes) > 10 and sizes[-1] == 1  # the last ones go one by one


def test_an_error_of_a_job_is_raised_as_it_is(cluster: RayCluster) -> None:
    with pytest.raises(ZeroDivisionError), closing(cluster.map(lambda number: 1 // number, [1, 0, 1])) as results:
        list(results)


def test_warnings_of_jobs_are_said_here(cluster: RayCluster, caplog: pytest.LogCaptureFixture) -> None:
    def job(number: int) -> None:
        logging.getLogger("lightmatch.images").warning("photo %d is dark", number)

    list(cluster.map(job, range(2)))
    assert sorted(record.getMessage() for record in caplog.records) == ["photo 0 is dark", "photo 1 is dark"]


def test_what_waits_is_dropped_when_the_results_are_closed(cluster: RayCluster, tmp_path: Path) -> None:
    def job(number: int) -> None:
        time.sleep(0.2)
        (tmp_path / str(number)).touch()

    with closing(cluster.map(job, range(100))) as results:
        next(results)
    done = len(list(tmp_path.iterdir()))
    time.sleep(1)
    assert 1 <= done < 20 and len(list(tmp_path.iterdir())) == done


def dies(folder: Path, times: int, number: int) -> int:
    """End the process the first few times that it comes to item 3."""
    before = len(list(folder.glob("death*")))
    if number == 3 and before < times:
        (folder / f"death{before}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_the_item_of_a_process_that_died_is_done_again(
    cluster: RayCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_LATE_S", 600.0)  # a busy machine is slow to start another process
    assert list(cluster.map(partial(dies, tmp_path, 1), range(8))) == list(range(8))
    (said,) = [record.getMessage() for record in caplog.records]
    assert "a process died while it did dies 4 of 8" in said and any(node.name in said for node in cluster.nodes)


def test_an_item_that_ends_every_process_ends_the_run(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_LATE_S", 600.0)  # as above; another node would do the item too
    with pytest.raises(ClusterError, match="a process died while it did dies 4 of 8, 3 times"):
        list(cluster.map(partial(dies, tmp_path, 9), range(8)))
    assert len(list(tmp_path.glob("death*"))) == dispatch.MOST_DEATHS


def fills(full: set[str], number: int) -> int:
    time.sleep(0.05)
    if here() in full:
        raise OSError(errno.ENOSPC, "No space left on device")
    return number


def test_a_node_whose_disk_is_full_is_done_without(cluster: RayCluster, caplog: pytest.LogCaptureFixture) -> None:
    full, _ = cluster.nodes
    assert list(cluster.map(partial(fills, {full.id}), range(20))) == list(range(20))
    assert [record.getMessage() for record in caplog.records] == [
        f"{full.name}: its disk is full; its work goes to other nodes"
    ]


def test_where_all_disks_are_full_the_error_is_raised(cluster: RayCluster) -> None:
    with pytest.raises(OSError, match="No space left"):
        list(cluster.map(partial(fills, {node.id for node in cluster.nodes}), range(20)))


def lingers(folder: Path, number: int) -> int:
    """Whichever node is the first to come to item 5 takes a minute for it."""
    with suppress(FileExistsError):
        if number == 5:
            (folder / "slow").mkdir()
            (folder / "slow" / here()).touch()
            time.sleep(60)
    time.sleep(0.1)
    return number


def test_what_takes_a_node_too_long_is_done_by_another_too(
    cluster: RayCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_LATE_S", 1.0)
    begun = time.monotonic()
    assert list(cluster.map(partial(lingers, tmp_path), range(6))) == list(range(6))
    (said,) = [record.getMessage() for record in caplog.records]
    (slow,) = [path.name for path in (tmp_path / "slow").iterdir()]
    first, second = sorted(cluster.nodes, key=lambda node: node.id != slow)
    assert f"{first.name} is slow" in said and f"{second.name} does it too" in said
    assert time.monotonic() - begun < 30


def test_a_node_that_does_not_see_the_folder_takes_no_part(
    nodes: LocalRay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can hide a folder from a process")
    blind = nodes.add("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$0" "$@"')
    try:
        cluster = RayCluster([tmp_path])
        assert len(cluster.nodes) == 2
        (said,) = [record.getMessage() for record in caplog.records]
        assert f"takes no part: it does not see {tmp_path}; mount it there under the same name" in said
    finally:
        nodes.kill(blind)
        nodes.wait_for(2)


def test_nodes_without_a_gpu_are_named_where_jobs_need_one(
    nodes: LocalRay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert RayCluster([tmp_path], uses_gpus=True).nodes == []
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == nodes.num_nodes() and all("takes no part: Ray finds no GPU there" in line for line in said)


def answers_late(shared: Sequence[str], mark: str | None) -> Greeting:
    while (Path(shared[0]) / f"late-{here()}").exists():
        time.sleep(0.1)
    return greeting(shared, mark)


def test_a_node_that_is_slow_to_answer_holds_up_nobody_and_takes_part_then(
    nodes: LocalRay, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightmatch.runtime.cluster.connection.greeting", answers_late)
    monkeypatch.setattr("lightmatch.runtime.cluster.nodes._GREET_S", 4.0)
    late = next(node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU"))
    (tmp_path / f"late-{late}").touch()
    cluster, end = RayCluster([tmp_path]), time.monotonic() + 60
    while not cluster.nodes and time.monotonic() < end:
        time.sleep(0.2)
    assert [path.name for path in tmp_path.iterdir()] == [f"late-{late}"]  # and no mark
    begun = time.monotonic()
    assert late not in {node for _, node in cluster.map(late_first, range(3))}
    assert time.monotonic() - begun < 30
    assert "did not answer within 4 s; it takes part when it does" in caplog.text
    (tmp_path / f"late-{late}").unlink()
    end = time.monotonic() + 60
    while len(cluster.nodes) < 2 and time.monotonic() < end:
        time.sleep(0.5)
    assert len(cluster.nodes) == 2 and list(tmp_path.iterdir()) == []  # the mark is gone


def waits_for_the_third(folder: Path, number: int) -> tuple[int, str]:
    """From item 8 on no item ends before the third node is there."""
    while number >= 8 and not (folder / "joined").exists():
        time.sleep(0.1)
    return late_first(number)


def test_a_node_that_joins_takes_part_and_its_items_are_done_by_others_when_it_leaves(
    nodes: LocalRay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = RayCluster([tmp_path])
    results = cluster.map(partial(waits_for_the_third, tmp_path), range(150))
    found = [next(results) for _ in range(4)]
    joined, end = nodes.add(), time.monotonic() + 60
    while len(cluster.nodes) < 3 and time.monotonic() < end:
        time.sleep(0.2)
    (tmp_path / "joined").touch()
    while len({node for _, node in found}) < 3:
        found.append(next(results))
    before = {node.id: node.name for node in cluster.nodes}
    nodes.kill(joined)
    found += results
    assert [square for square, _ in found] == [number**2 for number in range(150)]
    nodes.wait_for(2)
    (gone,) = before.keys() - {node.id for node in cluster.nodes}
    said = [record.getMessage() for record in caplog.records]
    assert f"{before[gone]} left the cluster; what it worked on is done again" in said


def test_no_cluster_is_said_in_one_sentence() -> None:
    ray.shutdown()
    with (
        pytest.raises(
            InvalidValueError, match=r"--cluster 127\.0\.0\.1:1: expected auto, or host:port of a Ray cluster"
        ),
        ray_cluster("127.0.0.1:1", []),
    ):
        pass
