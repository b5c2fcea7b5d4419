import math

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.surfaces import Surface, boulder, box, column, rectangle, relief, stairs


def area(surfaces: list[Surface]) -> float:
    corners = torch.cat([surface.triangles()[0] for surface in surfaces])
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(cross.norm(dim=-1).sum() / 2)


def enclosed_volume(surfaces: list[Surface]) -> float:
    """The flow of (x, 0, 0) through the surfaces, which needs no floors; positive if they face outwards."""
    corners = torch.cat([surface.triangles()[0] for surface in surfaces])
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float((corners[..., 0].mean(1) * cross[:, 0]).sum() / 2)


def test_a_rectangle_is_two_triangles_with_the_texture_upright() -> None:
    corners, normals, uvs = rectangle((0, 0, 0), (2, 0, 0), (0, 1, 0)).triangles()
    texture_of = {
        tuple(p.tolist()): tuple(uv.tolist()) for p, uv in zip(corners.view(-1, 3), uvs.view(-1, 2), strict=True)
    }
    assert texture_of == {(0, 0, 0): (0, 1), (2, 0, 0): (1, 1), (2, 1, 0): (1, 0), (0, 1, 0): (0, 0)}
    assert torch.equal(normals, torch.tensor([0.0, 0, 1]).expand(2, 3, 3))


def test_a_relief_rises_along_the_normal_and_its_normals_tilt() -> None:
    x = torch.linspace(0, 1, 5)
    surface = relief((0, 0, 0), (1, 0, 0), (0, 1, 0), (0.5 * x).expand(5, 5))
    torch.testing.assert_close(surface.points[..., 2], 0.5 * surface.points[..., 0])
    tilted = torch.tensor([-0.5, 0, 1]) / math.sqrt(1.25)
    torch.testing.assert_close(surface.normals(), tilted.expand(5, 5, 3))


@pytest.mark.parametrize(
    ("surfaces", "volume"),
    [
        (box(1.0, 2.0, 3.0), 6.0),
        (stairs(1.0, 3.0, 3.0, 3), 6.0),  # 3 + 2 + 1 blocks of 1 m³
        (column(1.0, 2.0, 64), 2 * math.pi),
    ],
    ids=["box", "stairs", "column"],
)
def test_solids_face_outwards_and_hold_their_volume(surfaces: list[Surface], volume: float) -> None:
    assert enclosed_volume(surfaces) == pytest.approx(volume, rel=0.01)


def test_a_boulder_is_round_and_faces_upwards() -> None:
    surface = boulder(2.0, torch.full((17, 17), 1.0))
    rim = torch.cat([surface.points[0], surface.points[:, 0], surface.points[-1], surface.points[:, -1]])
    torch.testing.assert_close(rim[:, :2].norm(dim=1), torch.full((68,), 2.0))
    torch.testing.assert_close(surface.normals()[1:-1, 1:-1], torch.tensor([0.0, 0, 1]).expand(15, 15, 3))
    assert area([surface]) == pytest.approx(4 * math.pi, rel=0.02)


def test_moving_keeps_areas() -> None:
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = [side.moved(turn, torch.tensor([5.0, 6, 7])) for side in box(1.0, 2.0, 3.0)]
    assert area(moved) == pytest.approx(2 * (3 + 6) + 2)
    assert torch.cat([side.points.reshape(-1, 3) for side in moved]).amin(0).tolist() == [4, 5.5, 7]


def test_sides_are_metres() -> None:
    assert rectangle((1, 1, 1), (0, 3, 0), (0, 0, 4)).sides() == (3, 4)


def test_one_row_is_no_surface() -> None:
    with pytest.raises(InvalidValueError, match="grid"):
        Surface(torch.zeros(1, 4, 3))
