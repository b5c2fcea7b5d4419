"""A video file → its undamaged frames as the decoder gives them, in presentation order.

Frames come one after the other from the beginning, never by seeking: seeking lands on key frames, and what is decoded
from there equals the whole decode only where every group of pictures is closed, which no container promises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightmatch.errors import ImageReadError
from lightmatch.runtime.threads import num_threads

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_SAME_SHAPE = 0.01  # by which aspect ratios may differ: those of one recording in several sizes, rounded to pixels


@dataclass(frozen=True, eq=False)
class Decoded:
    """One picture as stored: not yet upright, in the pixel format of the file, without interlacing."""

    index: int  # 0, 1, … over the sound frames, in the order of presentation
    time_s: float  # presentation time stamp
    picture: VideoFrame
    interlaced: bool = False  # whether it was


@dataclass(eq=False)
class VideoFile:
    """An open video, to be read once from its beginning."""

    path: Path
    container: InputContainer
    stream: VideoStream
    damage: list[str] = field(default_factory=list)  # a sentence on each, complete when everything has been read

    @property
    def rate(self) -> Fraction:
        """Frames per second on average; 30 where unknown."""
        return self.stream.average_rate or self.stream.guessed_rate or Fraction(30)

    @property
    def end_s(self) -> float | None:
        """When the video ends by its container, perhaps with sound after the last picture; None where unknown."""
        pictures_end_s = self._pictures_end_s
        return self._container_end_s if pictures_end_s is None else pictures_end_s

    @property
    def _pictures_end_s(self) -> float | None:
        """When the last picture ends by the container; None where unknown."""
        stream = self.stream
        if stream.duration is not None and stream.time_base is not None:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        written = stream.metadata.get("DURATION", "").split(":")  # Matroska: 00:00:02.500000000, from time 0 on
        if len(written) == 3:
            try:
                return int(written[0]) * 3600 + int(written[1]) * 60 + float(written[2])
            except ValueError:
                pass
        return None if self.container.streams.audio else self._container_end_s

    @property
    def _container_end_s(self) -> float | None:
        """When pictures and sound have ended; None where unknown."""
        container = self.container
        if container.duration is None:
            return None
        start = 0 if "matroska" in container.format.name else container.start_time or 0  # Matroska's is from time 0 on
        return (start + container.duration) / 1_000_000

    def decode(self) -> Iterator[Decoded]:
        """The undamaged frames. Those from damage up to the next key frame are left out, since they depend on it."""
        return self._without_interlacing(self._timed(self._of_one_shape(self._sound_pictures())))

    def _of_one_shape(self, pictures: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Without those of another aspect ratio than the first, which joined recordings have: made alike, they warp."""
        size: tuple[int, int] | None = None
        told = False
        for picture in pictures:
            size = size or (picture.width, picture.height)
            width, height = size
            if abs(picture.width / picture.height - width / height) <= _SAME_SHAPE * width / height:
                yield picture
            elif not told:
                told = True
                self.damage.append(
                    f"{self.path} has frames of {width} x {height} px at first and of {picture.width} x"
                    f" {picture.height} px later: those of another shape are left out; split it into two videos"
                )

    def _sound_pictures(self) -> Iterator[VideoFrame]:
        last_s: float | None = None  # of the latest sound picture
        waiting = False  # for a key frame, after a damage
        for picture in self._pictures():
            if picture is None or picture.is_corrupt:
                waiting = True
                continue
            if waiting and not picture.key_frame:
                continue
            if waiting:
                self._tell_damage(last_s, picture.time)
                waiting = False
            last_s = picture.time
            yield picture
        if waiting:
            self._tell_damage(last_s, None)

    def _pictures(self) -> Iterator[VideoFrame | None]:
        """Everything the decoder gives; None where it fails."""
        from av.error import FFmpegError

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                yield None
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except FFmpegError:
                yield None

    def _tell_damage(self, last_s: float | None, next_s: float | None) -> None:
        after = "at the beginning" if last_s is None else f"after {last_s:.2f} s"
        until = "no frame after it can be read" if next_s is None else f"frames up to {next_s:.2f} s are left out"
        self.damage.append(f"{self.path} is damaged or cut off {after}: {until}")

    def _timed(self, pictures: Iterator[VideoFrame]) -> Iterator[Decoded]:
        step_s = float(1 / self.rate)
        next_s, count = 0.0, 0
        for index, picture in enumerate(pictures):
            # Old containers (AVI) have time stamps of decoding only; bare streams have none.
            stamp = picture.pts if picture.pts is not None else picture.dts
            time_s = next_s if stamp is None or picture.time_base is None else float(stamp * picture.time_base)
            next_s, count = time_s + step_s, index + 1
            yield Decoded(index, time_s, picture, picture.interlaced_frame)
        self._tell_missing_end(next_s, count)

    def _tell_missing_end(self, found_s: float, count: int) -> None:
        """Record damage where the container announces many more frames than were decoded without an error."""
        promised_s, promised = self._pictures_end_s or 0.0, self.stream.frames
        short = found_s < promised_s - max(0.5, 0.05 * promised_s)
        few = count < 0.95 * promised if promised else True
        if short and few and not self.damage:
            self.damage.append(
                f"{self.path} is cut off: expected pictures up to {promised_s:.2f} s, got them up to {found_s:.2f} s"
                f" ({count} frames)"
            )

    def _without_interlacing(self, frames: Iterator[Decoded]) -> Iterator[Decoded]:
        """Interlaced pictures become whole ones at the time of their first field; others pass as they are."""
        from av.error import FFmpegError

        graph: Any = None
        pending: deque[Decoded] = deque()  # the filter looks one picture ahead

        def pull() -> Iterator[Decoded]:
            while pending:
                try:
                    picture = graph.vpull()
                except (BlockingIOError, FFmpegError):  # it wants more, or is at its end
                    return
                yield replace(pending.popleft(), picture=picture)

        for frame in frames:
            if graph is None and not frame.interlaced:
                yield frame
                continue
            graph = graph or self._deinterlacer()
            pending.append(frame)
            graph.vpush(frame.picture)
            yield from pull()
        if graph is not None:
            graph.vpush(None)
            yield from pull()

    def _deinterlacer(self) -> Any:
        from av.filter import Graph

        graph = Graph()
        source, sink = graph.add_buffer(template=self.stream), graph.add("buffersink")
        graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), sink).configure()
        return graph


def open_container(path: Path) -> InputContainer:
    """A video as a file and nothing else: a name with a colon is no address, a playlist may not name other files.

    Raises as PyAV does.
    """
    import av

    return av.open(f"file:{path}", mode="r", container_options={"protocol_whitelist": "file"})


@contextmanager
def open_file(path: Path) -> Generator[VideoFile]:
    """The video with its container read, no picture decoded yet.

    Raises ImageReadError where the file is missing, empty, no video, or of a codec that is not known here.
    """
    from av.error import FFmpegError
    from av.stream import Disposition

    if not path.is_file():
        got = "a folder" if path.is_dir() else "a pipe or device" if path.exists() else "no such file"
        raise ImageReadError(f"cannot read {path}: expected a video file, got {got}; check the path")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ImageReadError(f"cannot read {path}: {error.strerror}; check the file and its permissions") from error
    if empty:
        raise ImageReadError(f"cannot read {path}: expected a video, got an empty file; copy it again")
    try:
        container = open_container(path)
    except (OSError, ValueError, FFmpegError) as error:
        raise ImageReadError(
            f"cannot read {path}: expected a whole video (MP4, MOV, MKV, WebM, AVI …), got other content or a recording"
            " that was cut off before its end was written; copy it again or repair it"
        ) from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            got = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            got = "a cover picture and sound" if stream is not None else got
            raise ImageReadError(f"cannot read {path}: expected a video, got only {got}; name another file")
        if stream.codec_context is None:
            raise ImageReadError(
                f"cannot read {path}: expected a codec that FFmpeg decodes, got an unknown one; convert it to H.264"
            )
        video: Any = stream
        video.codec_context.thread_count = num_threads()
        video.thread_type = "AUTO"
        yield VideoFile(path, container, video)
