"""The loop: it learns, stops and goes on to the same bits, and survives numbers that are none."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from still_views import StillSource, still_group
from torch import nn

from lightmatch.errors import TrainingError
from lightmatch.extractors import create_extractor
from lightmatch.matchers import LightGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.training.batches import GroupStore, PairBatch, PairBatches, PairSampling
from lightmatch.training.loop import Callbacks, RunFolder, RunOptions, train
from lightmatch.training.losses import LightGlueObjective
from lightmatch.training.optimization import OptimizationConfig

NETWORK = LightGlueConfig("toy", 8, descriptor_dim=32, num_layers=2, num_heads=2, depth_confidence=None)
STEPS = OptimizationConfig(steps=12, ema_decay=0.9, precision="float32")
HERE = RunOptions(workers=0, log_every=3, checkpoint_every=100)


SAMPLING = PairSampling(48, (12,), pairs_per_group=2, min_matches=4)


def make_batches(folder: Path, rank: int = 0, world_size: int = 1, sampling: PairSampling = SAMPLING) -> PairBatches:
    store = GroupStore(folder, [("still", StillSource([24, 24, 24]), 6)], create_extractor("sift"))
    return PairBatches(store, sampling, 1, rank, world_size)


def make_matcher() -> LightGlue:
    torch.manual_seed(0)
    return LightGlue(NETWORK)


def objective(network: nn.Module) -> nn.Module:
    return LightGlueObjective(network, NETWORK.positions)  # type: ignore[arg-type]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run(tmp_path: Path, name: str, config: OptimizationConfig = STEPS, **options: object) -> LightGlue:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    make = options.pop("make_objective", objective)
    batches = make_batches(tmp_path / "groups", sampling=options.pop("sampling", SAMPLING))  # type: ignore[arg-type]
    metadata = options.pop("metadata", None)
    callbacks = Callbacks(**options)  # type: ignore[arg-type]
    average, _ = train(make_matcher(), make, batches, config, RunFolder(folder), HERE, callbacks, metadata=metadata)  # type: ignore[arg-type]
    return average  # type: ignore[return-value]


def test_a_small_network_learns_to_match_what_does_not_move(tmp_path: Path) -> None:
    long = replace(STEPS, steps=100, learning_rate=3e-3)
    trained = run(tmp_path, "long", long, sampling=SAMPLING.without_augmentation())
    losses = [float(row["loss"]) for row in rows(tmp_path / "long")]
    assert losses[-1] < 0.3 * losses[0]
    views = still_group([24, 24], seed=99).features  # never seen
    before, after = make_matcher()(*views), trained(*views)
    assert len(after) >= 22 > len(before)
    assert torch.equal(after.indices[:, 0], after.indices[:, 1])


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path, "whole")
    seen: list[int] = []
    run(tmp_path, "parts", on_step=seen.append, should_stop=lambda: len(seen) >= 4)
    resumed = run(tmp_path, "parts", on_step=seen.append)
    assert seen == [1, 2, 3, 4, 5, *range(6, 13)]  # should_stop is called before on_step: one more step, and none twice
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    measured = ("step", "pairs", "learning_rate")
    last = [[row[name] for name in measured] for row in rows(tmp_path / "whole")][-1]
    assert [[row[name] for name in measured] for row in rows(tmp_path / "parts")][-1] == last


def test_the_weights_on_disk_are_the_averaged_ones(tmp_path: Path) -> None:
    average = run(tmp_path, "run", metadata={"recipe": "toy"})
    loaded = LightGlue.from_checkpoint(tmp_path / "run" / "weights.safetensors")
    assert loaded.config == NETWORK
    for name, tensor in average.network.state_dict().items():
        assert torch.equal(tensor, loaded.network.state_dict()[name])


@pytest.mark.parametrize("is_fast", [False, True])
def test_products_are_in_bfloat16_where_the_device_multiplies_it(
    is_fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightmatch.training.loop.multiplies_bfloat16", lambda device: is_fast)
    for precision in ("float32", "bfloat16"):
        run(tmp_path, precision, replace(STEPS, precision=precision))
    exact, asked = (rows(tmp_path / name)[-1]["loss"] for name in ("float32", "bfloat16"))
    assert (exact == asked) == (not is_fast)


class _Spoiled(nn.Module):
    """An objective whose loss is not a number in some of the steps."""

    def __init__(self, network: nn.Module, spoiled: Callable[[int], bool]) -> None:
        super().__init__()
        self.inner, self.spoiled, self.step = objective(network), spoiled, -1

    def forward(self, batch: object, train_confidence: bool) -> object:
        self.step += 1
        losses = self.inner(batch, train_confidence)
        return losses._replace(total=losses.total * float("nan")) if self.spoiled(self.step) else losses


def test_a_step_without_a_finite_gradient_changes_nothing_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = run(tmp_path, "run", make_objective=lambda n: _Spoiled(n, lambda step: step == 5))
    assert "step 5 skipped" in caplog.text and "still/" in caplog.text
    assert all(bool(p.isfinite().all()) for p in trained.network.parameters())


class _WithStatistics(_Spoiled):
    """The same, whose network has batch norm, which gets the numbers that are none."""

    def forward(self, batch: object, train_confidence: bool) -> object:
        assert isinstance(batch, PairBatch)
        losses = super().forward(batch, train_confidence)
        norm = self.inner.network.statistics  # type: ignore[union-attr]
        spoil = float("nan") if self.spoiled(self.step) else 1.0
        norm(batch.features0.descriptors.flatten(0, 1) * spoil)  # type: ignore[operator]
        return losses


def test_a_step_without_a_finite_gradient_leaves_the_statistics_of_batch_norm(tmp_path: Path) -> None:
    matcher = make_matcher()
    matcher.network.statistics = nn.BatchNorm1d(8, affine=False)
    (tmp_path / "run").mkdir()
    batches, folder = make_batches(tmp_path / "groups"), RunFolder(tmp_path / "run")
    average, _ = train(matcher, lambda n: _WithStatistics(n, lambda step: step == 5), batches, STEPS, folder, HERE)
    for network in (matcher.network, average.network):
        statistics = network.statistics
        assert isinstance(statistics, nn.BatchNorm1d) and statistics.running_mean is not None
        assert 0 < float(statistics.running_mean.abs().sum()) < torch.inf
        assert int(statistics.num_batches_tracked) == STEPS.steps - 1  # type: ignore[arg-type]


def test_a_run_without_finite_gradients_fails_and_names_the_batches(tmp_path: Path) -> None:
    config = replace(STEPS, max_bad_steps=2)
    with pytest.raises(TrainingError, match=r"none in 3 steps in a row: step 4 \(still/\d.*lower the learning rate"):
        run(tmp_path, "run", config, make_objective=lambda n: _Spoiled(n, lambda step: step >= 4))


def test_the_rate_rises_stays_and_falls() -> None:
    config = OptimizationConfig(steps=100, learning_rate=1.0, warmup_share=0.1, decay_share=0.4)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:60] == [1.0] * 51
    assert rates[80] == pytest.approx(0.5) and rates[99] == pytest.approx(0.025)
    assert [step for step in range(100) if config.trains_confidence(step)] == list(range(80, 100))


def test_exits_alone_are_trained(tmp_path: Path) -> None:
    """A second stage moves nothing but the heads, and the published weights are what they are at its end."""
    before = make_matcher().network.state_dict()
    config = replace(STEPS, steps=30, exits_only=True, ema_decay=0.999)
    after = run(tmp_path, "exits", config).network.state_dict()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if name.startswith("token_confidence.")} != set()
    confidence = [float(row["confidence"]) for row in rows(tmp_path / "exits")]
    assert confidence[-1] < 0.8 * confidence[0]


def test_two_processes_learn_what_one_would(tmp_path: Path) -> None:
    """Their averaged gradient is that of both batches, and both end with the same weights."""
    code = f"""
import sys, torch, torch.distributed as dist
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
dist.init_process_group("gloo")
from pathlib import Path
from test_loop import *
rank = dist.get_rank()
folder = Path({str(tmp_path)!r}) / "run"
folder.mkdir(exist_ok=True)
batches = make_batches(Path({str(tmp_path)!r}) / f"groups{{rank}}", rank, 2)
matcher = make_matcher()
seen = []
stop = lambda: rank == 1 and len(seen) == 3  # one process stops, and so does the other
train(matcher, objective, batches, STEPS, RunFolder(folder), HERE, Callbacks(on_step=seen.append, should_stop=stop))
torch.save(matcher.network.state_dict(), folder / f"rank{{rank}}.pt")
dist.barrier()  # neither closes its connections while the other is at work
dist.destroy_process_group()
"""
    script = tmp_path / "both.py"
    script.write_text(code)
    # By number: the name of the machine need not resolve.
    address = "--local-addr=127.0.0.1"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        address,
        "--nproc-per-node=2",
        str(script),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / "run" / f"rank{rank}.pt") for rank in (0, 1))
    start = make_matcher().network.state_dict()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name])
    assert not torch.equal(first["posenc.Wr.weight"], start["posenc.Wr.weight"])
    assert [row["pairs"] for row in rows(tmp_path / "run")] == ["24", "32"]  # 2 × 4 pairs a step
