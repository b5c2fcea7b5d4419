"""HDR light and what becomes of it."""

import numpy as np
import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.video.colour import (
    BT709_FROM_BT2020,
    HDR_PEAK,
    SDR_WHITE,
    Transfer,
    compress_highlights,
    hlg_inverse_oetf,
    pq_eotf,
    pq_inverse_eotf,
    tone_map,
)

FULL_SCALE = 65280


def grey(code: float, shape: tuple[int, int] = (2, 3)) -> np.ndarray:
    return np.full((*shape, 3), round(code * FULL_SCALE), np.uint16)


@pytest.mark.parametrize(
    ("light", "code"), [(0.0, 0.0), (100, 0.508078), (203, 0.580689), (1000, 0.751827), (10000, 1)]
)
def test_pq_has_the_published_codes(light: float, code: float) -> None:
    """BT.2408, table 1, gives 58 % for 203 cd/m² and 75 % for 1000 cd/m²; BT.2100 gives 0.508 for 100."""
    assert pq_inverse_eotf(light) == pytest.approx(code, abs=1e-5)
    assert pq_eotf(code) == pytest.approx(light, rel=1e-4, abs=1e-6)


def test_hlg_has_the_published_codes() -> None:
    """The two pieces meet at one half; 75 % is 203 cd/m² on the nominal display (BT.2408, table 1)."""
    assert hlg_inverse_oetf(np.array([0, 0.5, 1])) == pytest.approx([0, 1 / 12, 1], abs=1e-6)
    assert hlg_inverse_oetf(np.array([0.5 + 1e-9])) == pytest.approx(1 / 12, abs=1e-6)
    assert HDR_PEAK * hlg_inverse_oetf(np.array(0.75)) ** 1.2 == pytest.approx(203, abs=1)


def test_highlights_are_compressed_and_the_rest_is_left_alone() -> None:
    light = np.linspace(0, 1200, 2401)
    mapped = compress_highlights(light)
    assert mapped[light < 87] == pytest.approx(light[light < 87])
    assert (np.diff(mapped) >= -1e-9).all()
    assert np.diff(mapped).max() <= 0.5 + 1e-3  # nowhere brightened, no jump at the knee
    assert mapped[light >= HDR_PEAK] == pytest.approx(SDR_WHITE)


def test_primaries_follow_from_their_chromaticities() -> None:
    """BT.709 and BT.2020 both have D65 white; a colour's XYZ is the same in both."""

    def xyz_from_rgb(corners: list[tuple[float, float]]) -> np.ndarray:
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in corners]).T
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        return columns * np.linalg.solve(columns, white)

    bt709 = xyz_from_rgb([(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)])
    bt2020 = xyz_from_rgb([(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)])
    assert pytest.approx(np.linalg.solve(bt709, bt2020), abs=1e-4) == BT709_FROM_BT2020


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_black_grey_and_white_look_as_they_should(transfer: Transfer) -> None:
    """Grey card and white paper at the levels of BT.2408, table 1: 26 and 203 cd/m², 38 % in either system."""
    paper = 0.5807 if transfer == "pq" else 0.75
    levels = [int(tone_map(grey(code), transfer)[0, 0, 1]) for code in (0, 0.38, paper, 1)]
    assert levels[0] == 0
    assert 90 <= levels[1] <= 120  # 118 in an sRGB photo of the same card
    assert 200 <= levels[2] <= 240
    assert levels[3] == 255
    assert np.ptp(tone_map(grey(0.38), transfer)) <= 1  # neutral stays neutral


def test_both_systems_agree_on_the_same_light() -> None:
    for code in (0.2, 0.38, 0.5, 0.75, 0.9):
        light = HDR_PEAK * hlg_inverse_oetf(np.array(code)) ** 1.2  # of a grey: luminance is the level itself
        as_hlg, as_pq = tone_map(grey(code), "hlg"), tone_map(grey(float(pq_inverse_eotf(light))), "pq")
        assert np.abs(as_hlg.astype(int) - as_pq.astype(int)).max() <= 1


def test_a_bright_colour_keeps_its_hue() -> None:
    """Beyond the knee all channels are scaled alike: their ratios in linear light stay."""

    def linear(pixel: np.ndarray) -> np.ndarray:
        return (((pixel / 255) + 0.055) / 1.055) ** 2.4

    light = np.array([600.0, 300.0, 200.0])
    codes = np.rint(pq_inverse_eotf(light) * FULL_SCALE).astype(np.uint16)[None, None]
    mapped = linear(tone_map(codes, "pq", bt2020=False)[0, 0].astype(float))
    assert mapped / mapped[0] == pytest.approx(light / light[0], abs=0.01)
    assert mapped[0] < 1


def test_wide_colours_are_converted_in_linear_light() -> None:
    """Dim enough that no highlight is compressed: PQ, the matrix, sRGB, and nothing else."""
    light = np.array([60.0, 40.0, 30.0])
    codes = np.rint(pq_inverse_eotf(light) * FULL_SCALE).astype(np.uint16)[None, None]
    linear = BT709_FROM_BT2020 @ light / SDR_WHITE
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert tone_map(codes, "pq")[0, 0] == pytest.approx(expected, abs=0.6)


def test_colours_beyond_srgb_are_clipped() -> None:
    codes = np.array([[[0, round(0.5 * FULL_SCALE), 0]]], np.uint16)  # pure BT.2020 green, 92 cd/m²
    red, green, blue = tone_map(codes, "pq")[0, 0].tolist()
    assert (red, blue) == (0, 0)
    assert green > 150


def test_wrong_input_is_told() -> None:
    with pytest.raises(InvalidValueError, match="no tone mapping"):
        tone_map(grey(0.5), "sdr")
    with pytest.raises(InvalidValueError, match="uint8"):
        tone_map(np.zeros((2, 2, 3), np.uint8), "pq")
