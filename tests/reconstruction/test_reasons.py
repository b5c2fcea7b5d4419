"""Every way to be left out has its reason, its kind and an advice that helps."""

from collections import UserDict
from collections.abc import ItemsView
from dataclasses import replace

import pytest

from lightmatch.inputs.image_quality import PictureQuality
from lightmatch.reconstruction.diagnostics.reasons import Evidence, LeftOut, explain_left_out, no_model_reason
from lightmatch.reconstruction.mapping.mappers import ORDINARY

SHARP = PictureQuality(
    blur=0.25,
    sharpness=900.0,
    white_level=220.0,
    white_share=0.0,
    black_share=0.01,
    texture_share=0.5,
    entropy_bits=7.0,
)
INSIDE = {"a.jpg", "b.jpg", "d.jpg"}


def only(evidence: Evidence, elsewhere: dict[str, int] | None = None) -> LeftOut:
    """What is said of c.jpg."""
    found = explain_left_out(evidence, INSIDE, elsewhere or {})
    assert [photo.name for photo in found] == ["c.jpg"]
    return found[0]


def evidence(c: dict[str, int] | None = None, num_keypoints: int = 2000) -> Evidence:
    """Four photos, three in the model; `c`: matches of the one that is not."""
    verified = {("a.jpg", "b.jpg"): 300, ("b.jpg", "d.jpg"): 200}
    verified |= {("c.jpg", name) if name > "c.jpg" else (name, "c.jpg"): count for name, count in (c or {}).items()}
    return Evidence({"a.jpg": 2000, "b.jpg": 2000, "c.jpg": num_keypoints, "d.jpg": 2000}, verified)


def test_no_overlap_names_the_neighbour_in_order() -> None:
    photo = only(evidence())
    assert (photo.kind, photo.reason) == (
        "no overlap",
        "no verified matches with any photo: it may show something else",
    )
    assert photo.advice.startswith("if it shows the same place, take 2–3 photos between b.jpg and c.jpg")


def test_a_camera_that_only_rotated_is_told_to_step_aside() -> None:
    photo = only(replace(evidence(), only_rotated={"c.jpg"}))
    assert (photo.kind, photo.reason) == ("only rotated", "the camera only rotated here, so no depth can be had")
    assert photo.advice.startswith("step aside")


def test_pairs_are_looked_through_once_for_all_photos() -> None:
    """There are as many left out as there are photos, and more pairs: their product takes minutes."""

    class Counted(UserDict[tuple[str, str], int]):
        def items(self) -> ItemsView[tuple[str, str], int]:
            looks.append(1)
            return super().items()

    looks: list[int] = []
    verified = Counted({("a.jpg", "b.jpg"): 300, ("b.jpg", "x0.jpg"): 40, ("x0.jpg", "x1.jpg"): 50})
    others = [f"x{number}.jpg" for number in range(20)]
    found = explain_left_out(Evidence(dict.fromkeys(others, 2000), verified), INSIDE, {"x0.jpg": 1, "x1.jpg": 1})
    assert len(looks) == 1
    assert [photo.kind for photo in found] == ["other model"] * 2 + ["no overlap"] * 18
    assert "between b.jpg and x0.jpg" in found[1].advice


def test_too_few_and_enough_matches() -> None:
    photo = only(evidence({"a.jpg": 12, "b.jpg": 29}))
    assert (photo.kind, photo.reason) == ("few matches", "too few verified matches: at most 29 (with b.jpg)")
    assert "come closer to where b.jpg was taken" in photo.advice
    photo = only(evidence({"a.jpg": 30}))
    assert photo.kind == "not fixed" and photo.reason == "30 matches with a.jpg, but its position could not be fixed"
    assert "step sideways rather than turn" in photo.advice


def test_matches_outside_only() -> None:
    base = evidence({"e.jpg": 80})
    base = replace(base, num_keypoints={**base.num_keypoints, "e.jpg": 900})
    c, e = explain_left_out(base, INSIDE, {})
    assert c.kind == e.kind == "matches outside" and "(e.jpg)" in c.reason and "(c.jpg)" in e.reason
    assert "between d.jpg and e.jpg" in e.advice


def test_few_keypoints_without_a_measured_picture() -> None:
    photo = only(evidence(num_keypoints=3))
    assert photo.kind == "blank"
    assert photo.reason.startswith("only 3 keypoints: blurred, dark or without texture, or --max-keypoints")


@pytest.mark.parametrize(
    ("change", "kind", "reason", "advice"),
    [
        ({"blur": 0.7}, "blurred", "blurred: blur 0.70", "hold still"),
        ({"white_level": 20.0}, "dark", "too dark: its brightest parts reach 20 of 255", "more light"),
        ({"white_share": 0.9}, "overexposed", "overexposed: 90% of it is white", "less exposure"),
        ({"texture_share": 0.001}, "blank", "hardly any texture: grey changes in 0.1%", "step back"),
    ],
)
def test_a_flaw_explains_what_cannot_be_matched(change: dict[str, float], kind: str, reason: str, advice: str) -> None:
    quality = {"a": SHARP, "b": SHARP, "d": SHARP, "c.jpg": replace(SHARP, **change)}
    poor = replace(evidence({"b.jpg": 5}), quality=quality)
    photo = only(poor)
    assert photo.kind == kind and photo.reason.startswith(reason) and advice in photo.advice
    fine = replace(evidence({"b.jpg": 120}), quality=quality)
    assert only(fine).kind == "not fixed"  # it matches well: the flaw is not why


def test_blur_is_relative_to_the_camera() -> None:
    names = [f"{n}.jpg" for n in range(6)]
    quality = dict.fromkeys(names, SHARP) | {"c.jpg": replace(SHARP, blur=0.4)}
    assert only(replace(evidence(), quality=quality)).kind == "no overlap"
    assert only(replace(evidence(), quality=quality, cameras=[[*names, "c.jpg"]])).kind == "blurred"


def test_another_model_and_the_link_to_it() -> None:
    photo = only(evidence({"d.jpg": 25, "a.jpg": 10}), {"c.jpg": 1})
    assert photo.kind == "other model" and "sparse/1" in photo.reason
    assert "between d.jpg and c.jpg" in photo.advice
    alone = only(evidence(), {"c.jpg": 1})  # no link: the neighbour, and perhaps another place
    assert alone.advice.startswith("if it shows the same place, take 2–3 photos between b.jpg and c.jpg")


def test_doppelgangers_and_outlier_cameras() -> None:
    photo = only(replace(evidence({"b.jpg": 5}), doppelgangers=[("c.jpg", "a.jpg")]))
    assert photo.kind == "doppelgänger" and "looks like a.jpg but shows another place" in photo.reason
    assert only(replace(evidence({"b.jpg": 90}), doppelgangers=[("c.jpg", "a.jpg")])).kind == "not fixed"
    photo = only(replace(evidence({"b.jpg": 90}), outlier_cameras={"c.jpg"}))
    assert photo.kind == "outlier camera" and "between b.jpg and c.jpg" in photo.advice


def test_photos_that_are_not_matched_at_all() -> None:
    repeated = LeftOut.same_picture("c.jpg", "a.jpg")
    assert (repeated.kind, repeated.reason, repeated.advice) == ("duplicate", "the same picture as a.jpg", "")
    assert LeftOut.same_file("c.jpg", "a.jpg") == LeftOut("c.jpg", "the same file as a.jpg", "duplicate")
    assert LeftOut.unreadable("c.jpg", "truncated") == LeftOut("c.jpg", "unreadable: truncated", "unreadable")
    assert LeftOut.not_used("c.raw", "a raw file") == LeftOut("c.raw", "a raw file", "unreadable")
    mirrored = LeftOut.mirrored("c.jpg")
    assert mirrored.kind == "mirrored" and "--mirrored flip-back" in mirrored.advice


def test_photos_are_called_as_the_user_knows_them() -> None:
    (photo,) = explain_left_out(evidence(), INSIDE, {}, {"c.jpg": "IMG 1.heic"})
    assert photo.name == "IMG 1.heic"
    old = LeftOut("x.jpg", "unreadable: no photo")  # two fields still do
    assert (old.kind, old.advice) == ("other", "")


def test_nothing_at_all() -> None:
    assert explain_left_out(Evidence({}, {}), set(), {}) == ()
    (alone,) = explain_left_out(Evidence({"c.jpg": 900}, {}), set(), {})
    assert alone.kind == "no overlap" and alone.advice == ""


def test_why_there_is_no_model() -> None:
    good = {"a": 900, "b": 900}
    assert "1 of 2 have fewer than 50 keypoints" in no_model_reason({"a": 900, "b": 3}, {})
    assert "no two photos share enough" in no_model_reason(good, {})
    few = no_model_reason(good, {("a", "b"): 40})  # a model may start from as few, where their geometry is good
    assert "no pair has more than 40 verified matches" in few and "starts from" not in few
    assert f"{ORDINARY.init_min_num_inliers} or more make it likely" in few
    assert "move sideways" in no_model_reason(good, {("a", "b"): ORDINARY.init_min_num_inliers})
    assert "move sideways" in no_model_reason(good, {("a", "b"): 400})
