"""A whole run on a real Ray cluster: the bits of one machine, whatever is killed or full."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import command
import psutil
import pytest
from whole_runs import WHOLE, first_photos, written_by

ray = pytest.importorskip("ray")

from local_ray import LocalRay  # noqa: E402

from lightmatch.pipelines.reconstruct import read_summary, reconstruct  # noqa: E402
from lightmatch.runtime.cluster import RayCluster, dispatch  # noqa: E402
from lightmatch.runtime.executor import Threads  # noqa: E402
from lightmatch.runtime.threads import num_threads, use_threads  # noqa: E402


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalRay]:
    local = LocalRay()
    try:
        local.add()
        yield local
    finally:
        ray.shutdown()
        local.stop()


@pytest.fixture(scope="module")
def photos(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_photos(4, scene_photos, tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one thread of one process writes."""
    before = num_threads()
    use_threads(1)
    try:
        return written_by(Threads(), photos, tmp_path_factory.mktemp("alone"))
    finally:
        use_threads(before)


def different(ours: dict[str, bytes], theirs: dict[str, bytes]) -> list[str]:
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


class Killer(threading.Thread):
    """Kills a process that works on a job, a few times, and a whole node in the middle."""

    def __init__(self, nodes: LocalRay, output: Path) -> None:
        super().__init__(daemon=True)
        self._nodes, self._output = nodes, output
        self._victim = nodes.add()
        self.killed: list[str] = []
        self.running = True

    def run(self) -> None:
        for _ in range(2):
            self._kill_process()
        self._nodes.kill(self._victim)
        self.killed.append("node")
        self._kill_process()

    def _kill_process(self) -> None:
        time.sleep(3)
        while self.running:
            for process in psutil.process_iter(["name", "cmdline"]):
                if "ray::do" in " ".join(process.info["cmdline"] or ()):
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                        self.killed.append("process")
                        return
            time.sleep(0.05)


def test_a_cluster_where_processes_and_a_node_are_killed_writes_the_same_bits(
    nodes: LocalRay, photos: Path, alone: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "cluster"
    killer = Killer(nodes, output)
    cluster = RayCluster([output, photos])
    assert len(cluster.nodes) == 2
    killer.start()
    found = written_by(cluster, photos, output)
    killer.running = False
    killer.join()
    cluster.clear()
    assert different(found, alone) == []
    assert "node" in killer.killed and killer.killed.count("process") >= 2
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "a process died while it did" in said and "left the cluster" in said
    assert list(output.rglob("*.partial")) == []


def test_a_node_with_a_full_disk_is_done_without(
    nodes: LocalRay, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a process a disk of its own")
    monkeypatch.setattr(dispatch, "_LATE_S", 300.0)  # on a busy machine nobody does the node's first item for it
    output, config = tmp_path / "out", replace(WHOLE, splat=False, depth_maps=False)
    features = output / "store" / "features"
    features.mkdir(parents=True)
    (output / ".lightmatch").write_text("unfinished\n")
    full = nodes.add("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=8k none {features} && exec "$0" "$@"')
    try:
        summary = reconstruct(photos, output, config, executor=RayCluster([output, photos]))
        assert summary.num_registered == 4
        said = [record.getMessage() for record in caplog.records]
        assert sum("its disk is full; its work goes to other nodes" in one for one in said) == 1
    finally:
        nodes.kill(full)


def test_the_command_line_works_on_a_cluster(nodes: LocalRay, photos: Path, tmp_path: Path) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "bucket"
    done = command.run(
        *("reconstruct", os.path.relpath(photos), "-o", os.path.relpath(output), "--no-splat", "--guided-keypoints", 0),
        *("--max-keypoints", 512, "--cluster", nodes.address, "--store", f"file://{elsewhere}"),
    )
    assert "cluster: 1 nodes with 1 cores" in done.stderr
    assert read_summary(output).num_registered == 4
    assert len(list(elsewhere.rglob("features/*/*.safetensors"))) == 4
    assert not (output / "store" / "features").exists() and not (output / "store" / "matches").exists()


def test_without_a_cluster_the_command_line_says_how_to_start_one(photos: Path, tmp_path: Path) -> None:
    done = command.run("reconstruct", photos, "-o", tmp_path / "out", "--cluster", "127.0.0.1:1", code=1)
    assert "could not connect" in done.stderr and "ray start --head" in done.stderr
