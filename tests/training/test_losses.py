"""The loss against the full assignment, and what its gradients may reach."""

from collections.abc import Callable

import pytest
import torch

from lightmatch.geometry.correspondence import Correspondence
from lightmatch.networks.adaptive import TokenConfidence
from lightmatch.networks.assignment import log_assignment
from lightmatch.networks.lightglue import LightGlueConfig, LightGlueNetwork
from lightmatch.networks.rotary import position_inputs
from lightmatch.training.batches import PairBatch
from lightmatch.training.losses import LightGlueObjective, LightGlueObjectiveConfig
from lightmatch.types import FeatureKind, Features

CONFIG = LightGlueConfig("toy", 8, descriptor_dim=16, num_layers=3, num_heads=2)


def features(count: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(
        torch.rand((count, 2), generator=generator) * 100,
        torch.ones(count),
        torch.randn((count, 8), generator=generator),
        (100, 100),
        FeatureKind("toy", 8, True),
        torch.full((count,), 5.0),
        torch.rand(count, generator=generator),
    )


def truth(matches: list[list[int]], alone0: list[int], alone1: list[int], m: int, n: int) -> Correspondence:
    unmatchable0, unmatchable1 = torch.zeros(m, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    unmatchable0[alone0], unmatchable1[alone1] = True, True
    return Correspondence(torch.tensor(matches, dtype=torch.int64).reshape(-1, 2), unmatchable0, unmatchable1)


PAIRS = [
    (features(5, 0), features(6, 1), truth([[0, 2], [3, 1]], [4], [0, 5], 5, 6)),
    (features(3, 2), features(4, 3), truth([[1, 1]], [], [], 3, 4)),
    (features(4, 4), features(2, 5), truth([], [0, 1, 2, 3], [1], 4, 2)),
]


@pytest.fixture
def make() -> Callable[..., LightGlueObjective]:
    def objective(**config: bool) -> LightGlueObjective:
        torch.manual_seed(0)
        return LightGlueObjective(LightGlueNetwork(CONFIG), CONFIG.positions, LightGlueObjectiveConfig(**config))

    return objective


def batch_of(*numbers: int) -> PairBatch:
    return PairBatch.collate([PAIRS[n] for n in numbers], [str(n) for n in numbers])


def loss_by_the_book(objective: LightGlueObjective, number: int, layer: int) -> tuple[list[float], list[float]]:
    """−log P of each true match and −log(1 − σ) of each unmatchable point, from the full assignment."""
    features0, features1, labels = PAIRS[number]
    single = batch_of(number)
    positions = [
        position_inputs(CONFIG.positions, f.keypoints, f.image_sizes, f.scales, f.orientations)
        for f in (single.features0, single.features1)
    ]
    network = objective.network
    x0, x1 = network(features0.descriptors[None], features1.descriptors[None], *positions)[layer]
    head = network.log_assignment[layer]
    z0, z1 = head.matchability(x0)[..., 0], head.matchability(x1)[..., 0]  # type: ignore[operator, misc]
    log_p = log_assignment(head.similarity(x0, x1), z0, z1)[0]  # type: ignore[operator]
    positive = [-float(log_p[i, j]) for i, j in labels.matches.tolist()]
    alone = torch.cat((z0[0, labels.unmatchable0], z1[0, labels.unmatchable1]))
    return positive, [-float(torch.log(1 - z.sigmoid())) for z in alone]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_last_layer_s_terms_are_those_of_the_paper(make: Callable[..., LightGlueObjective]) -> None:
    objective = make()
    with torch.no_grad():
        losses = objective(batch_of(0))
        positive, negative = loss_by_the_book(objective, 0, layer=2)
    assert float(losses.positive) == pytest.approx(mean(positive), abs=1e-5)
    assert float(losses.negative) == pytest.approx(mean(negative), abs=1e-5)


def test_the_total_is_the_mean_over_layers_of_the_mean_of_both_terms(make: Callable[..., LightGlueObjective]) -> None:
    objective = make()
    with torch.no_grad():
        total = float(objective(batch_of(0)).total)
        terms = [loss_by_the_book(objective, 0, layer) for layer in range(3)]
    assert total == pytest.approx(mean([0.5 * mean(p) + 0.5 * mean(n) for p, n in terms]), abs=1e-5)


def test_padding_and_neighbours_change_nothing(make: Callable[..., LightGlueObjective]) -> None:
    objective = make()
    with torch.no_grad():
        together = objective(batch_of(0, 1, 2))
        alone = [objective(batch_of(n)) for n in range(3)]
    # Pair 1 has no unmatchable points, pair 2 no matches: each term is the mean over pairs that have it.
    assert float(together.positive) == pytest.approx(mean([float(alone[n].positive) for n in (0, 1)]), abs=1e-5)
    assert float(together.negative) == pytest.approx(mean([float(alone[n].negative) for n in (0, 2)]), abs=1e-5)


def test_a_batch_without_any_match_has_finite_gradients(make: Callable[..., LightGlueObjective]) -> None:
    objective = make()
    objective(batch_of(2), train_confidence=True).total.backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) for g in gradients)


def gradients_of(objective: LightGlueObjective, train_confidence: bool = False) -> dict[str, torch.Tensor | None]:
    objective.train()
    objective(batch_of(0, 1, 2), train_confidence).total.backward()
    return {name: p.grad for name, p in objective.network.named_parameters()}


def test_the_exits_are_taught_without_bending_anything_else(make: Callable[..., LightGlueObjective]) -> None:
    without, taught = gradients_of(make()), gradients_of(make(), train_confidence=True)
    for name, gradient in taught.items():
        if name.startswith("token_confidence"):
            assert without[name] is None and gradient is not None and bool(gradient.any())
        else:
            torch.testing.assert_close(gradient, without[name])


def test_recomputing_gives_the_same_gradients(make: Callable[..., LightGlueObjective]) -> None:
    stored, recomputed = gradients_of(make(), True), gradients_of(make(recompute=True), True)
    for name, gradient in stored.items():
        torch.testing.assert_close(recomputed[name], gradient)


def test_last_layer_supervision_leaves_earlier_heads_alone(make: Callable[..., LightGlueObjective]) -> None:
    gradients = gradients_of(make(every_layer=False))
    assert gradients["log_assignment.0.final_proj.weight"] is None
    assert gradients["log_assignment.2.final_proj.weight"] is not None
    assert gradients["transformers.0.self_attn.Wqkv.weight"] is not None


def test_without_matchability_its_heads_learn_nothing(make: Callable[..., LightGlueObjective]) -> None:
    objective = make(matchability=False)
    gradients = gradients_of(objective)
    assert gradients["log_assignment.2.matchability.weight"] is None
    assert float(objective(batch_of(0)).negative) == 0


def test_a_sure_exit_costs_next_to_nothing_where_the_choice_is_final(make: Callable[..., LightGlueObjective]) -> None:
    objective = make()
    network = objective.network
    # Two layers of which the second changes nothing: the first one's choice is always final.
    network.transformers = torch.nn.ModuleList([network.transformers[0], _Nothing()])
    network.log_assignment = torch.nn.ModuleList([network.log_assignment[0]] * 2)
    head = TokenConfidence(16)
    network.token_confidence = torch.nn.ModuleList([head])
    torch.nn.init.zeros_(head.token[0].weight)  # type: ignore[arg-type]
    torch.nn.init.constant_(head.token[0].bias, 5.0)  # type: ignore[arg-type]
    sure = float(objective(batch_of(0), train_confidence=True).confidence)
    assert sure == pytest.approx(float(torch.nn.functional.softplus(torch.tensor(-5.0))), abs=1e-5)


class _Nothing(torch.nn.Module):
    """A layer that changes nothing."""

    def forward(self, x0: torch.Tensor, x1: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        return x0, x1


def test_the_loss_of_geometry_is_made_where_it_has_weight(make: Callable[..., LightGlueObjective]) -> None:
    batch = batch_of(0, 1)
    without = make()(batch)
    with_it = make(geometry=0.5)(batch)
    assert float(without.geometry) == 0
    torch.testing.assert_close(with_it.total - without.total, 0.5 * with_it.geometry)


def test_states_and_positions_stay_exact_where_products_are_in_half_precision(
    make: Callable[..., LightGlueObjective],
) -> None:
    network = make().network
    assert isinstance(network, LightGlueNetwork)
    both = batch_of(0).features0
    positions = position_inputs(CONFIG.positions, both.keypoints, both.image_sizes, both.scales, both.orientations)
    with torch.autocast("cpu", torch.bfloat16):
        states, (cos, _) = network.embed(both.descriptors, positions)
        last = network(both.descriptors, both.descriptors, positions, positions)[-1][0]
    assert states.dtype == last.dtype == torch.float32
    assert torch.equal(cos, network.posenc(positions)[0])
