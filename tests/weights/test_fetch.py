"""Fetching weights, from a server that can be made to fail."""

import errno
import hashlib
import http.client
import http.server
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from lightmatch.errors import WeightsError
from lightmatch.weights import WeightsRecord, find_weights, obtain_weights, verify_weights, weights_folder

CONTENT = bytes(range(256)) * 4000  # a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Serves CONTENT at /good, half of it at /cut (once whole is requested), other bytes at /other."""

    url: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.requests.append((self.path, wanted))
            if self.path == "/gone":
                self.send_error(404)
                return
            content = CONTENT if self.path != "/other" else b"something else"
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.path != "/other" else 0
            if first >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            end = len(content) // 2 if self.path == "/cut" and not first else len(content)
            self.wfile.write(content[first:end])

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield server
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTMATCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LIGHTMATCH_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


def record(*urls: str, sha256: str = SHA256) -> WeightsRecord:
    return WeightsRecord("toy", "toy.pth", urls, "MIT", "none", sha256, len(CONTENT), hub_names=("toy-v1.pth",))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"toy.pth.lock"}


def test_a_file_is_fetched_once_with_progress(server: Server) -> None:
    steps: list[tuple[int, int | None]] = []
    toy = record(f"{server.url}/good")
    assert find_weights(toy) is None
    path = obtain_weights(toy, lambda done, total: steps.append((done, total)))
    assert path == weights_folder() / "toy.pth" and path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT)) and len(steps) > 2
    assert obtain_weights(toy) == path and len(server.requests) == 1
    assert names(weights_folder()) == {"toy.pth"}
    assert verify_weights(toy) == SHA256


def test_a_fetch_that_was_cut_off_goes_on(server: Server) -> None:
    toy = record(f"{server.url}/cut")
    with pytest.raises(WeightsError, match=rf"ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes.*try again"):
        obtain_weights(toy)
    assert names(weights_folder()) == {"toy.pth.partial"} and find_weights(toy) is None
    assert obtain_weights(toy).read_bytes() == CONTENT
    assert server.requests[1] == ("/cut", f"bytes={len(CONTENT) // 2}-")
    assert names(weights_folder()) == {"toy.pth"}


def test_a_wrong_file_is_never_kept_and_the_mirror_is_asked(server: Server) -> None:
    with pytest.raises(WeightsError, match=rf"/other: its SHA-256 is [0-9a-f]{{64}}, not {SHA256}"):
        obtain_weights(record(f"{server.url}/other"))
    assert names(weights_folder()) == set()
    assert obtain_weights(record(f"{server.url}/other", f"{server.url}/good")).read_bytes() == CONTENT


def test_leftovers_of_another_file_are_found_out(server: Server) -> None:
    weights_folder().mkdir(parents=True)
    for length in (1000, len(CONTENT)):
        (weights_folder() / "toy.pth.partial").write_bytes(b"x" * length)
        path = obtain_weights(record(f"{server.url}/good"))
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_without_network_the_sentence_says_what_to_put_where(server: Server) -> None:
    for url in ("http://127.0.0.1:9/toy.pth", f"{server.url}/gone"):
        with pytest.raises(WeightsError) as caught:
            obtain_weights(record(url))
        for part in (url, "toy.pth", str(weights_folder())):
            assert part in str(caught.value)


def test_a_network_that_fails_half_way_is_no_full_disk(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> bytes:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(http.client.HTTPResponse, "read", unreachable)
    with pytest.raises(WeightsError, match=r"cannot be fetched \(.*/good: No route to host; .*/good: No route"):
        obtain_weights(record(f"{server.url}/good", f"{server.url}/good"))


def test_files_by_hand_and_of_torch_hub_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = record("http://127.0.0.1:9/toy.pth")
    hub = tmp_path / "torch" / "hub" / "checkpoints" / "toy-v1.pth"
    hub.parent.mkdir(parents=True)
    hub.write_bytes(CONTENT)
    assert obtain_weights(toy) == hub
    offline = tmp_path / "offline" / "toy.pth"
    offline.parent.mkdir()
    offline.write_bytes(CONTENT)
    monkeypatch.setenv("LIGHTMATCH_WEIGHTS", os.pathsep.join(["/nowhere", str(offline.parent)]))
    assert obtain_weights(toy) == offline


def test_a_damaged_file_is_passed_over_and_told(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    toy = record(f"{server.url}/good")
    path = obtain_weights(toy)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="delete it and fetch it again"):
        verify_weights(toy)
    with caplog.at_level(logging.WARNING):
        assert obtain_weights(toy).read_bytes() == CONTENT
    assert "SHA-256 differs" in caplog.text


def test_a_folder_that_cannot_be_written(home: Path) -> None:
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match=r"cannot be written.*LIGHTMATCH_HOME.*LIGHTMATCH_WEIGHTS"):
        obtain_weights(record("http://127.0.0.1:9/toy.pth"))


def test_two_processes_at_once_fetch_it_once(server: Server) -> None:
    code = (
        "from lightmatch.weights import *;"
        f"print(obtain_weights(WeightsRecord('toy', 'toy.pth', ('{server.url}/good',), 'MIT', '', '{SHA256}')))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=120)[0].strip() for process in running}
    assert outputs == {str(weights_folder() / "toy.pth")} and len(server.requests) == 1


def test_a_licence_that_forbids_commercial_use_warns_once(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    toy = replace(record(f"{server.url}/good"), name="toy-warned-once", license="research only", commercial_use=False)
    with caplog.at_level(logging.WARNING):
        obtain_weights(toy)
        obtain_weights(toy)
    assert caplog.text.count("no commercial use") == 1
