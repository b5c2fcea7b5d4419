"""The command line as people type it: exit codes, one sentence for a mistake, never a traceback."""

import gc
import json
from importlib.metadata import version
from pathlib import Path

import cv2
import pytest
from command import run

from lightmatch.cli.app import VERBS, load_verb


def test_version() -> None:
    assert run("--version").stdout.strip() == version("lightmatch")


@pytest.mark.parametrize("verb", ["match", "reconstruct", "localize", "report", "demo", "doctor"])
def test_every_verb_has_an_example(verb: str) -> None:
    assert "Example" in run(verb, "--help").stdout


def test_match_writes_what_it_is_asked_for(scene_photos: Path, tmp_path: Path) -> None:
    picture, matches = tmp_path / "m.png", tmp_path / "m.json"
    done = run("match", scene_photos / "view_0.png", scene_photos / "view_1.png", "-o", picture, "--json", matches)
    assert "inliers" in done.stdout
    drawn = cv2.imread(str(picture))
    assert drawn is not None and drawn.std() > 20
    assert json.loads(matches.read_text())["num_inliers"] > 50


def test_reconstruct_prints_a_table(scene_photos: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log.jsonl"
    quick = ["--max-keypoints", 512, "--guided-keypoints", 0, "--no-splat", "--seed", 1]
    done = run("reconstruct", scene_photos, "-o", out, *quick, "--json-log", log)
    assert "6 of 6" in done.stdout and "reprojection error" in done.stdout
    assert "report.html" in done.stdout and "extract" in done.stderr
    assert (out / "sparse/0/images.bin").is_file()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    ended = {event["stage"]: (event["done"], event["total"]) for event in events if event["event"] == "end"}
    assert ended["extract"] == (6, 6) and ended["match"] == (15, 15) and "report" in ended
    assert {"time", "event", "stage", "done", "total"} <= events[0].keys()

    silent = run("reconstruct", scene_photos, "-o", out, *quick, "--overwrite", "--quiet")
    assert silent.stdout == silent.stderr == ""
    refused = run("reconstruct", scene_photos, "-o", out, *quick, code=1)
    assert refused.stderr.startswith("error: ") and "--overwrite" in refused.stderr

    (out / "report.html").unlink()
    assert "report.html" in run("report", out).stdout and (out / "report.html").stat().st_size > 100_000
    pose = tmp_path / "pose.json"
    assert "inliers" in run("localize", out, scene_photos / "view_3.png", "--json", pose).stdout
    assert json.loads(pose.read_text())["num_inliers"] > 50


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["match", "absent.jpg", "absent.jpg"], "absent.jpg"),
        (["reconstruct", "absent", "-o", "out"], "expected a folder of photos, found nothing"),
        (["reconstruct", ".", "-o", "out", "--pairs", "some"], "expected one of auto"),
        (["reconstruct", ".", "-o", "out", "--device", "tpu"], "device: expected auto"),
    ],
)
def test_a_mistake_gives_one_sentence(arguments: list[str], says: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments, code=1)
    assert done.stderr.startswith("error: ") and says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("options", [["-o", "a.png"], ["--json", "b.png"], ["-o", "x.png", "--json", "x.png"]])
def test_match_never_writes_over_a_photo(options: list[str], scene_photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = (scene_photos / "view_0.png").read_bytes()
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(before)
    assert "in use here" in run("match", "a.png", "b.png", *options, code=1).stderr
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes() == before


def test_a_place_that_cannot_be_written_gives_one_sentence(scene_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    photo = scene_photos / "view_0.png"
    done = run("match", photo, photo, "--json", tmp_path / "file" / "m.json", code=1)
    assert done.stderr.startswith("error: ") and "cannot be read or written" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is always full")
def test_a_full_disk_gives_one_sentence(scene_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    photo = scene_photos / "view_0.png"
    assert "error: the disk is full" in run("match", photo, photo, "--json", tmp_path / "full", code=1).stderr


def test_doctor_examines() -> None:
    out = run("doctor").stdout
    for word in ("pycolmap", "cpu", "float32", "sift", "nearest"):
        assert word in out


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_verbs_says_what_each_says_of_itself(verb: str) -> None:
    command = load_verb(verb)
    assert command.name == verb
    assert command.help.strip().splitlines()[0] == VERBS[verb][1]


def test_what_a_verb_imports_is_left_out_of_garbage_collection() -> None:
    load_verb("match")
    assert gc.isenabled() and gc.get_freeze_count() > 10_000
