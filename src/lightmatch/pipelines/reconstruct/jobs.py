"""What is to be read: photos and chosen frames of videos; panoramas among them are cut into views (panoramas.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lightmatch.errors import ImageReadError
from lightmatch.images import ANY_NUMBER, Levels
from lightmatch.inputs import Inputs, VideoInput, frame_mask
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.reconstruction import LeftOut
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.files import file_digest
from lightmatch.runtime.store import digest
from lightmatch.video import ChosenFrame, FrameChoice, FrameChoiceConfig, choose_frames, frame_name, write_frames

FIRST_VIEW = "front"  # of a panorama: the frame of its rig, there in any case
_PARTS = 100  # of a video's progress: half for choosing, half for writing


@dataclass(frozen=True)
class ViewOf:
    """The panorama that a picture is a view of."""

    rig: str  # the folder above those of the views; panoramas of one rig are cut alike
    view: str  # a key of VIEWS
    panorama: str  # how the user knows it

    @property
    def folder(self) -> str:
        """That of all views of the rig that look the same way: one camera's, relative to OUT/images."""
        return f"{self.rig}/{self.view}"


@dataclass(frozen=True)
class Job:
    """One picture to work on."""

    source: Path
    name: str  # of the working copy, relative to OUT/images
    shown: str  # how the user knows it
    mask: Path | None
    video: str | None = None  # the folder of its video
    time_s: float | None = None  # in it
    levels: Levels | None = None  # for load_image, as is:
    max_pixels: int = ANY_NUMBER  # a video's frames were made here
    view_of: ViewOf | None = None
    facts_from: Path | None = None  # the file whose EXIF block holds; None: `source`
    flipped: bool = False  # left and right are exchanged


def photo_jobs(inputs: Inputs, levels: Levels | None, max_pixels: int) -> list[Job]:
    """The photos. levels, max_pixels: as for `load_image`."""
    return [
        Job(photo.path, photo.name, photo.shown, photo.mask, levels=levels, max_pixels=max_pixels)
        for photo in inputs.photos
    ]


def frame_jobs(
    run: Run,
    inputs: Inputs,
    folder_for: Callable[[VideoInput, list[ChosenFrame]], Path],
    warnings: list[str],
    left_out: list[LeftOut],
) -> list[Job]:
    """Choose the frames of each video and write those that are not there yet.

    folder_for: where the frames of a video go. warnings, left_out: damages of videos, and videos that cannot be read,
    are appended.
    """
    if not inputs.videos:
        return []
    jobs: list[Job] = []
    with run.progress.stage("frames", _PARTS * len(inputs.videos)) as step:
        for video in inputs.videos:
            reported = 0

            def report(part: float) -> None:
                nonlocal reported
                while reported < round(part * _PARTS):
                    reported += 1
                    step()

            try:
                frames = _chosen(video, run.cache, warnings, report)
                folder = folder_for(video, frames)
                _keep_for(folder, file_digest(video.path))
                write_frames(video.path, folder, frames, lambda part: report((1 + part) / 2))
            except (ImageReadError, PermissionError) as error:
                left_out.append(LeftOut.unreadable(video.shown, str(error)))
                report(1.0)
                continue
            for frame in frames:
                name = frame_name(frame.index)
                mask = frame_mask(video.masks, name)
                shown = f"{video.shown} at {frame.time_s:.2f} s"
                jobs.append(Job(folder / name, f"{video.folder}/{name}", shown, mask, video.folder, frame.time_s))
            report(1.0)
    return jobs


def _chosen(video: VideoInput, cache: Cache, warnings: list[str], report: Callable[[float], None]) -> list[ChosenFrame]:
    config = FrameChoiceConfig(max_frames=video.max_frames)

    def choose() -> FrameChoice:
        return choose_frames(video.path, config, lambda part: report(part / 2))

    key = digest("frames", file_digest(video.path), asdict(config))
    choice = cache.value(f"frames-{digest(video.folder)[:8]}", key, FrameChoice, choose)
    warnings += [f"{video.shown}: {damage}" for damage in choice.damage]
    return list(choice.frames)


def _keep_for(folder: Path, source: str) -> None:
    """Frames of another video that lie in the folder are removed: frames are known by their numbers alone."""
    marker = folder / ".video"
    if folder.is_dir() and not (marker.is_file() and marker.read_text() == source):
        for path in folder.glob("*.jpg"):
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(source)
