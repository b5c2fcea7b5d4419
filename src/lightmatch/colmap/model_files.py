"""COLMAP's models and dense maps, read and written without pycolmap.

A model is a folder with cameras, images and points3D, all .txt or all .bin; rigs and frames, which newer versions
add, are not read, for the images carry their poses too. Keypoints and principal points are in our pixels here:
COLMAP's own, whose first pixel has its centre at (0.5, 0.5), stand in the files alone.
Source: https://colmap.github.io/format.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import colmap_from_pixels, pixels_from_colmap, require_shape

CAMERA_PARAMS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "FOV": "fx fy cx cy omega",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "THIN_PRISM_FISHEYE": "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
    "RAD_TAN_THIN_PRISM_FISHEYE": "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
    "SIMPLE_DIVISION": "f cx cy k",
    "DIVISION": "fx fy cx cy k",
    "SIMPLE_FISHEYE": "f cx cy",
    "FISHEYE": "fx fy cx cy",
    "EUCM": "fx fy cx cy alpha beta",
    "EQUIRECTANGULAR": "w h",
}
"""Camera models in the order of COLMAP's numbers for them, with the names of their parameters."""

_PINHOLE_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_OPENCV_ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_NO_POINT = 2**64 - 1  # how COLMAP's files say that a keypoint sees no 3D point; -1 in text


@dataclass(frozen=True)
class ColmapCamera:
    """A camera as COLMAP has it: `params` are named in CAMERA_PARAMS and in COLMAP's pixels."""

    camera_id: int
    model: str
    width: int  # px
    height: int  # px
    params: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in CAMERA_PARAMS:
            raise InvalidValueError(
                f"camera {self.camera_id}: expected a camera model out of {', '.join(CAMERA_PARAMS)}; got {self.model}"
            )
        names = CAMERA_PARAMS[self.model].split()
        if len(self.params) != len(names):
            raise InvalidValueError(
                f"camera {self.camera_id}: expected {len(names)} parameters ({' '.join(names)}) for {self.model},"
                f" got {len(self.params)}"
            )

    def _param(self) -> dict[str, float]:
        if self.model not in _PINHOLE_MODELS:
            raise InvalidValueError(
                f"camera {self.camera_id}: expected a camera with K and OpenCV's distortion"
                f" ({', '.join(_PINHOLE_MODELS)}), got {self.model}; undistort the photos with COLMAP first"
            )
        return dict(zip(CAMERA_PARAMS[self.model].split(), self.params, strict=True))

    def K(self) -> Tensor:  # noqa: N802
        """The camera matrix, (3, 3) float64, in our pixels. Raises InvalidValueError for fisheyes and the like."""
        param = self._param()
        fx, fy = param.get("fx", param.get("f")), param.get("fy", param.get("f"))
        centre = pixels_from_colmap(torch.tensor([param["cx"], param["cy"]], dtype=torch.float64))
        K = torch.tensor([[fx, 0, 0], [0, fy, 0], [0, 0, 1]], dtype=torch.float64)
        K[:2, 2] = centre
        return K

    def distortion(self) -> tuple[float, ...]:
        """Lens distortion in OpenCV's order k1 k2 p1 p2 k3 k4 k5 k6, as long as OpenCV takes it; () without any.

        Raises InvalidValueError for fisheyes and the like.
        """
        param = self._param()
        values = tuple(param.get(name, 0.0) for name in _OPENCV_ORDER)
        return () if not any(values) else values if any(values[4:]) else values[:4]


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """A registered photo: its pose, its keypoints and which 3D points they see."""

    image_id: int
    name: str  # path relative to the folder of photos, with '/'
    camera_id: int
    cam_from_world: Tensor  # (3, 4) float64
    keypoints: Tensor  # (n, 2) float64, our px
    observing: Tensor  # (k,) int64, keypoints that see a 3D point, ascending
    observed: Tensor  # (k,) int64, the rows in ColmapPoints that they see

    def __post_init__(self) -> None:
        require_shape("ColmapImage.cam_from_world", self.cam_from_world, 3, 4)
        require_shape("ColmapImage.keypoints", self.keypoints, None, 2)
        if self.observing.shape != self.observed.shape:
            raise InvalidValueError(
                "ColmapImage: expected one observed point for each observing keypoint,"
                f" got {len(self.observed)} for {len(self.observing)}"
            )


@dataclass(frozen=True, eq=False)
class ColmapPoints:
    """The 3D points, one a row. Tracks are not kept apart: the images say what they observe."""

    ids: Tensor  # (p,) int64, ascending
    xyz: Tensor  # (p, 3) float64
    rgb: Tensor  # (p, 3) uint8
    error_px: Tensor  # (p,) float64, mean reprojection error; NaN where it was never computed

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """A reconstruction; cameras and images by their ids."""

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: ColmapPoints

    def track(self, row: int) -> list[tuple[int, int]]:
        """Who sees the point in `row` of `points`: (image_id, keypoint index) each."""
        return [
            (image.image_id, int(keypoint))
            for image in self.images.values()
            for keypoint in image.observing[image.observed == row]
        ]


def is_colmap_model(folder: Path) -> bool:
    """Whether `folder` holds cameras, images and points3D, all as text or all as binary."""
    return _suffix(folder) is not None


def _suffix(folder: Path) -> str | None:
    whole = (end for end in (".bin", ".txt") if all((folder / f"{name}{end}").is_file() for name in _FILES))
    return next(whole, None)


def read_colmap_model(folder: str | Path) -> ColmapModel:
    """Read the model in `folder`; binary where both forms are there.

    Raises InvalidValueError where files are missing or damaged, or a photo sees a point that is not there.
    """
    folder = Path(folder)
    suffix = _suffix(folder)
    if suffix is None:
        raise InvalidValueError(
            f"{folder}: expected a COLMAP model (cameras, images and points3D, all .bin or all .txt), found none;"
            " name the folder that holds them"
        )
    readers = _BINARY_READERS if suffix == ".bin" else _TEXT_READERS
    parts = []
    for name, reader in zip(_FILES, readers, strict=True):
        path = folder / f"{name}{suffix}"
        try:
            parts.append(reader(path.read_bytes()))
        except (ValueError, struct.error, IndexError, OSError) as error:
            raise InvalidValueError(
                f"{path}: expected a whole COLMAP file, got damaged data ({error}); export the model again"
            ) from error
    cameras, raw_images, points = parts
    images = {}
    for image_id, camera_id, name, pose, keypoints, point_ids in raw_images:
        observing = np.flatnonzero(point_ids != _NO_POINT)
        rows = np.searchsorted(points.ids.numpy(), point_ids[observing].astype(np.int64))
        known = np.append(points.ids.numpy(), -1)[rows] == point_ids[observing].astype(np.int64)
        if not known.all() or camera_id not in cameras:
            raise InvalidValueError(
                f"{folder}: expected every photo's camera and 3D points in the model,"
                f" {name} names others; export the model again"
            )
        images[image_id] = ColmapImage(
            image_id,
            name,
            camera_id,
            pose,
            pixels_from_colmap(torch.from_numpy(keypoints)),
            torch.from_numpy(observing),
            torch.from_numpy(rows),
        )
    return ColmapModel(cameras, images, points)


def write_colmap_model(model: ColmapModel, folder: str | Path, *, binary: bool = False) -> None:
    """Write cameras, images and points3D into `folder`, which is made if it is not there.

    Other files are left alone: a model in the other form, rigs and frames that lie there already do not fit.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    suffix, writers = (".bin", _BINARY_WRITERS) if binary else (".txt", _TEXT_WRITERS)
    for name, writer in zip(_FILES, writers, strict=True):
        (folder / f"{name}{suffix}").write_bytes(writer(model))


def read_colmap_array(path: str | Path) -> Tensor:
    """A dense map of COLMAP's stereo folder, such as `photo.jpg.geometric.bin`: float32.

    Returns (height, width) for one channel (depth: z in the camera, 0 where unknown), (height, width, channels)
    for more (normals). Raises InvalidValueError where the file is missing or damaged.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        width, height, channels = (int(number) for number in content[:64].split(b"&")[:3])
        start = len(f"{width}&{height}&{channels}&")
        # Column-major in (x, y, channel): rows of pixels, one plane for each channel.
        values = np.frombuffer(content[start:], "<f4").reshape(channels, height, width)
    except (OSError, ValueError) as error:
        raise InvalidValueError(
            f"{path}: expected COLMAP's 'width&height&channels&' and as many float32 numbers, could not read that"
            f" ({error}); check the path or run the stereo step again"
        ) from error
    array = torch.from_numpy(values.astype(np.float32))
    return array[0] if channels == 1 else array.permute(1, 2, 0).contiguous()


def write_colmap_array(array: Tensor, path: str | Path) -> None:
    """Write a dense map, (height, width) or (height, width, channels), as `read_colmap_array` reads it."""
    if array.ndim not in (2, 3):
        raise InvalidValueError(f"array: expected (height, width) or (height, width, channels), got {array.ndim} axes")
    planes = array[None] if array.ndim == 2 else array.permute(2, 0, 1)
    channels, height, width = planes.shape
    header = f"{width}&{height}&{channels}&".encode("ascii")
    Path(path).write_bytes(header + planes.cpu().numpy().astype("<f4").tobytes())


_FILES = ("cameras", "images", "points3D")
_RawImage = tuple[int, int, str, Tensor, np.ndarray, np.ndarray]
_MODEL_NAMES = list(CAMERA_PARAMS)


def rotation_from_quaternion(quaternion: Sequence[float]) -> Tensor:
    """(3, 3) of w x y z, of any length but 0."""
    if not any(quaternion):
        raise ValueError("a rotation of 0 0 0 0")
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _quaternion_from_rotation(R: Tensor) -> list[float]:
    """Of (3, 3), w x y z with w ≥ 0: the main eigenvector of the matrix of Bar-Itzhack (2000), equation 22."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = R.tolist()
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    quaternion = np.linalg.eigh(np.array(rows))[1][:, -1]
    return (quaternion if quaternion[0] >= 0 else -quaternion).tolist()


def _pose(numbers: tuple[float, ...]) -> Tensor:
    """cam_from_world (3, 4) of the quaternion and translation, 7 numbers."""
    translation = torch.tensor(numbers[4:], dtype=torch.float64)
    return torch.cat((rotation_from_quaternion(numbers[:4]), translation[:, None]), 1)


def _pose_numbers(image: ColmapImage) -> list[float]:
    return [*_quaternion_from_rotation(image.cam_from_world[:, :3]), *image.cam_from_world[:, 3].tolist()]


def _points(rows: list[tuple[int, list[float], list[int], float]]) -> ColmapPoints:
    """From (id, xyz, rgb, error) each; an error below 0 says that there is none."""
    rows.sort(key=lambda row: row[0])
    error = torch.tensor([row[3] for row in rows], dtype=torch.float64)
    return ColmapPoints(
        torch.tensor([row[0] for row in rows], dtype=torch.int64),
        torch.tensor([row[1] for row in rows], dtype=torch.float64).reshape(-1, 3),
        torch.tensor([row[2] for row in rows], dtype=torch.uint8).reshape(-1, 3),
        torch.where(error < 0, torch.nan, error),
    )


def _written_points(model: ColmapModel) -> Iterator[tuple[int, list[float], list[int], float, list[tuple[int, int]]]]:
    """(id, xyz, rgb, error, track) of each point."""
    points = model.points
    tracks: list[list[tuple[int, int]]] = [[] for _ in range(len(points))]
    for image in model.images.values():
        for keypoint, row in zip(image.observing.tolist(), image.observed.tolist(), strict=True):
            tracks[row].append((image.image_id, keypoint))
    error = points.error_px.nan_to_num(nan=-1.0)
    yield from zip(points.ids.tolist(), points.xyz.tolist(), points.rgb.tolist(), error.tolist(), tracks, strict=True)


def _point_ids(model: ColmapModel, image: ColmapImage) -> np.ndarray:
    """(n,) uint64: the id of the 3D point each keypoint sees, as COLMAP writes it."""
    ids = np.full(len(image.keypoints), _NO_POINT, dtype=np.uint64)
    ids[image.observing.numpy()] = model.points.ids[image.observed].numpy()
    return ids


def _lines(content: bytes) -> list[str]:
    return [line.strip() for line in content.decode("utf-8").splitlines()]


def _data_lines(content: bytes) -> list[str]:
    return [line for line in _lines(content) if line and not line.startswith("#")]


def _read_cameras_text(content: bytes) -> dict[int, ColmapCamera]:
    cameras = {}
    for line in _data_lines(content):
        camera_id, model, width, height, *params = line.split()
        cameras[int(camera_id)] = ColmapCamera(
            int(camera_id), model, int(width), int(height), tuple(float(number) for number in params)
        )
    return cameras


def _read_images_text(content: bytes) -> list[_RawImage]:
    images = []
    lines = iter(_lines(content))
    for line in lines:
        if not line or line.startswith("#"):
            continue
        image_id, qw, qx, qy, qz, tx, ty, tz, camera_id, name = line.split(maxsplit=9)
        # The line after a photo's holds its keypoints; it is empty where there are none.
        table = np.array(next(lines, "").split(), dtype=np.float64).reshape(-1, 3)
        point_ids = table[:, 2].astype(np.int64).astype(np.uint64)  # −1 becomes _NO_POINT
        pose = _pose(tuple(float(number) for number in (qw, qx, qy, qz, tx, ty, tz)))
        images.append((int(image_id), int(camera_id), name, pose, table[:, :2], point_ids))
    return images


def _read_points_text(content: bytes) -> ColmapPoints:
    rows = []
    for line in _data_lines(content):
        point_id, x, y, z, r, g, b, error, *_ = line.split(maxsplit=8)
        rows.append((int(point_id), [float(x), float(y), float(z)], [int(r), int(g), int(b)], float(error)))
    return _points(rows)


class _Bytes:
    """Little-endian numbers, one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from("<" + form, self.content, self.place)
        self.place += struct.calcsize("<" + form)
        return values

    def take_array(self, dtype: np.dtype, count: int) -> np.ndarray:
        values = np.frombuffer(self.content, dtype, count, self.place)
        self.place += values.nbytes
        return values

    def take_name(self) -> str:
        end = self.content.index(b"\0", self.place)
        name = self.content[self.place : end].decode("utf-8")
        self.place = end + 1
        return name


_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
_TRACK_BYTES = 8  # two int32 for each observation


def _read_cameras_binary(content: bytes) -> dict[int, ColmapCamera]:
    data = _Bytes(content)
    cameras = {}
    for _ in range(data.take("Q")[0]):
        camera_id, model_id, width, height = data.take("IiQQ")
        if not 0 <= model_id < len(_MODEL_NAMES):
            raise ValueError(f"camera model number {model_id}")
        model = _MODEL_NAMES[model_id]
        params = data.take(f"{len(CAMERA_PARAMS[model].split())}d")
        cameras[camera_id] = ColmapCamera(camera_id, model, width, height, params)
    return cameras


def _read_images_binary(content: bytes) -> list[_RawImage]:
    data = _Bytes(content)
    images = []
    for _ in range(data.take("Q")[0]):
        image_id, *pose, camera_id = data.take("I7dI")
        name = data.take_name()
        keypoints = data.take_array(_KEYPOINT, data.take("Q")[0])
        images.append((image_id, camera_id, name, _pose(tuple(pose)), keypoints["xy"].copy(), keypoints["point"]))
    return images


def _read_points_binary(content: bytes) -> ColmapPoints:
    data = _Bytes(content)
    rows = []
    for _ in range(data.take("Q")[0]):
        point_id, x, y, z, r, g, b, error, track_length = data.take("Q3d3BdQ")
        data.place += _TRACK_BYTES * track_length
        rows.append((point_id, [x, y, z], [r, g, b], error))
    if data.place > len(content):
        raise ValueError("the last track is cut off")
    return _points(rows)


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _join(*values: object) -> str:
    return " ".join(str(value) for value in values)


def _write_cameras_text(model: ColmapModel) -> bytes:
    lines = [_join(c.camera_id, c.model, c.width, c.height, *c.params) for c in model.cameras.values()]
    return _text(["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]", *lines])


def _write_images_text(model: ColmapModel) -> bytes:
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", "# POINTS2D[] as X Y POINT3D_ID"]
    for image in model.images.values():
        lines.append(_join(image.image_id, *_pose_numbers(image), image.camera_id, image.name))
        keypoints = colmap_from_pixels(image.keypoints).tolist()
        ids = _point_ids(model, image).astype(np.int64).tolist()
        lines.append(_join(*(_join(x, y, point) for (x, y), point in zip(keypoints, ids, strict=True))))
    return _text(lines)


def _write_points_text(model: ColmapModel) -> bytes:
    lines = ["# POINT3D_ID X Y Z R G B ERROR TRACK[] as IMAGE_ID POINT2D_IDX"]
    for point_id, xyz, rgb, error, track in _written_points(model):
        lines.append(_join(point_id, *xyz, *rgb, error, *(_join(*seen) for seen in track)))
    return _text(lines)


def _write_cameras_binary(model: ColmapModel) -> bytes:
    parts = [struct.pack("<Q", len(model.cameras))]
    for c in model.cameras.values():
        parts.append(struct.pack("<IiQQ", c.camera_id, _MODEL_NAMES.index(c.model), c.width, c.height))
        parts.append(struct.pack(f"<{len(c.params)}d", *c.params))
    return b"".join(parts)


def _write_images_binary(model: ColmapModel) -> bytes:
    parts = [struct.pack("<Q", len(model.images))]
    for image in model.images.values():
        parts.append(struct.pack("<I7dI", image.image_id, *_pose_numbers(image), image.camera_id))
        parts.append(image.name.encode("utf-8") + b"\0" + struct.pack("<Q", len(image.keypoints)))
        table = np.empty(len(image.keypoints), _KEYPOINT)
        table["xy"], table["point"] = colmap_from_pixels(image.keypoints).numpy(), _point_ids(model, image)
        parts.append(table.tobytes())
    return b"".join(parts)


def _write_points_binary(model: ColmapModel) -> bytes:
    parts = [struct.pack("<Q", len(model.points))]
    for point_id, xyz, rgb, error, track in _written_points(model):
        parts.append(struct.pack("<Q3d3BdQ", point_id, *xyz, *rgb, error, len(track)))
        parts.append(np.array(track, "<i4").tobytes())
    return b"".join(parts)


_TEXT_READERS = (_read_cameras_text, _read_images_text, _read_points_text)
_BINARY_READERS = (_read_cameras_binary, _read_images_binary, _read_points_binary)
_TEXT_WRITERS = (_write_cameras_text, _write_images_text, _write_points_text)
_BINARY_WRITERS = (_write_cameras_binary, _write_images_binary, _write_points_binary)
