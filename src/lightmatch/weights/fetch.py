"""From a record to a verified file: found in a folder, or fetched once.

Folders are searched in this order: those named by LIGHTMATCH_WEIGHTS (separated as in PATH, never written to), our own
(LIGHTMATCH_HOME/weights, or the platform's folder for caches), torch hub's.
"""

from __future__ import annotations

import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from lightmatch.errors import WeightsError
from lightmatch.runtime.files import file_digest
from lightmatch.weights.records import WeightsRecord

logger = logging.getLogger(__name__)

OnBytes = Callable[[int, int | None], None]
"""Told how many bytes are there, and of how many, where that is known."""

_CHUNK = 1 << 18
_TIMEOUT_S = 30
_said: set[str] = set()


def weights_folder() -> Path:
    """Where fetched weights are kept."""
    home = os.environ.get("LIGHTMATCH_HOME")
    if home:
        return Path(home).expanduser() / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("lightmatch", appauthor=False) / "weights"


def find_weights(record: WeightsRecord) -> Path | None:
    """The file of `record` where one is already, else None; a file with another hash counts as none, with a warning."""
    for path in _places(record):
        if path.is_file():
            if record.sha256 == file_digest(path):
                return path
            logger.warning("%s is not what it should be (SHA-256 differs from the record's); passed over", path)
    return None


def obtain_weights(record: WeightsRecord, on_bytes: OnBytes | None = None) -> Path:
    """The file of `record`, fetched if it is nowhere yet; its hash is checked before it gets its name.

    Several processes may ask at once: one fetches, the others wait. A fetch that was cut off goes on where it ended.
    Raises WeightsError where it cannot be had; the sentence says what to put where by hand.
    """
    found = find_weights(record)
    if found is None:
        found = _fetch(record, weights_folder() / record.file, on_bytes or (lambda *_: None))
    _tell_licence(record)
    return found


def local_weights(record: WeightsRecord) -> Path:
    """The file of `record` where one is on this machine already; nothing is fetched.

    Raises WeightsError where there is none.
    """
    found = find_weights(record)
    if found is None:
        raise WeightsError(
            f"{record.name}: expected {record.file} on this machine, found none with the right SHA-256; run:"
            f" lightmatch weights fetch {record.name}"
        )
    _tell_licence(record)
    return found


def _tell_licence(record: WeightsRecord) -> None:
    if not record.commercial_use and record.name not in _said:
        _said.add(record.name)
        logger.warning("%s: its licence (%s) allows no commercial use", record.file, record.license)


def verify_weights(record: WeightsRecord) -> str | None:
    """The SHA-256 of the file in our own folder, None where there is none.

    Raises WeightsError where it is not the record's.
    """
    path = weights_folder() / record.file
    if not path.is_file():
        return None
    digest = file_digest(path)
    if record.sha256 != digest:
        raise WeightsError(f"{path}: expected SHA-256 {record.sha256}, got {digest}; delete it and fetch it again")
    return digest


def _places(record: WeightsRecord) -> Iterator[Path]:
    for folder in filter(None, os.environ.get("LIGHTMATCH_WEIGHTS", "").split(os.pathsep)):
        yield Path(folder).expanduser() / record.file
    yield weights_folder() / record.file
    for name in (record.file, *record.hub_names):
        yield Path(torch.hub.get_dir()) / "checkpoints" / name


def _fetch(record: WeightsRecord, path: Path, on_bytes: OnBytes) -> Path:
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.is_file() or record.sha256 != file_digest(path):  # else another was faster
                _download(record, path, on_bytes)
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be written ({error.strerror or error}); name another folder with LIGHTMATCH_HOME, or put"
            f" {record.file} from {record.urls[0]} into a folder named by LIGHTMATCH_WEIGHTS"
        ) from error
    return path


def _download(record: WeightsRecord, path: Path, on_bytes: OnBytes) -> None:
    """From the first place that gives the right file."""
    partial = path.with_name(path.name + ".partial")
    reasons = []
    for url in record.urls:
        try:
            goes_on = partial.exists()
            _receive(url, partial, on_bytes)
            if goes_on and record.sha256 != file_digest(partial):  # what was there may have been of another file
                partial.unlink()
                _receive(url, partial, on_bytes)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
            continue
        digest = file_digest(partial)
        if record.sha256 == digest:
            partial.replace(path)
            return
        partial.unlink()
        reasons.append(f"{url}: its SHA-256 is {digest}, not {record.sha256}")
    raise WeightsError(
        f"{record.name}: cannot be fetched ({'; '.join(reasons)}); try again, or put {record.file} from"
        f" {record.urls[0]} into {path.parent}"
    )


def _receive(url: str, partial: Path, on_bytes: OnBytes) -> None:
    """Bring `partial` to its full length; raises ConnectionError where the connection ends early.

    Proxies are those of the environment (urllib).
    """
    there = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if not (there and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise
        return  # it is whole already, or of another file: the hash decides
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            there = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else there + int(length)
        with partial.open("ab" if there else "wb") as file:
            while chunk := _read(response):
                file.write(chunk)
                there += len(chunk)
                on_bytes(there, total)
    if total is not None and there < total:
        raise ConnectionError(f"ended after {there} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes. Raises ConnectionError for all that goes wrong with the network, TLS and routes too."""
    try:
        return response.read(_CHUNK)
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error
