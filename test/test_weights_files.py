"""Published weights: the table, the cache, and the download against a local server that misbehaves on request."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pave_ros import models
from pave_ros.checkpoints import files
from pave_ros.checkpoints.files import WEIGHTS, WeightsError, WeightsFile
from pave_ros.detection import TORCHVISION

CONTENT = os.urandom(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT: /ranges, /whole (knows no Range), /cut (breaks off each time), /html, /moved; others are 404."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str | None] = []  # the Range header of each
        self.cut_after = 400_000
        self.cuts = 99

    def row(self, path: str, **known: object) -> WeightsFile:
        url = f"http://127.0.0.1:{self.server_port}/{path}"
        return WeightsFile("weights.pth", "detrpose_n", "coco17", url, "http://page", "Apache-2.0", **known)  # type: ignore[arg-type]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # noqa: N802
        self.server.requests.append(self.headers["Range"])
        kind = self.path.strip("/")
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/ranges")
            self.end_headers()
        elif kind in ("ranges", "whole", "cut", "html"):
            self.send_content(kind)
        else:
            self.send_error(404)

    def send_content(self, kind: str) -> None:
        start = int((self.headers["Range"] or "bytes=0-")[6:-1]) if kind != "whole" else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html" if kind == "html" else "application/octet-stream")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT)
        if kind == "cut" and self.server.cuts > 0:
            self.server.cuts -= 1
            end = min(end, start + self.server.cut_after)
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(files, "TIMEOUT", 5.0)
    with Server() as it:
        threading.Thread(target=it.serve_forever, args=(0.02,), daemon=True).start()
        yield it
        it.shutdown()


def part(row: WeightsFile) -> Path:
    return row.path.with_name("weights.pth.part")


def leave_part(row: WeightsFile, data: bytes) -> None:
    row.path.parent.mkdir(parents=True)
    part(row).write_bytes(data)


def test_table() -> None:
    assert len({row.name for row in WEIGHTS}) == len(WEIGHTS)
    for row in WEIGHTS:
        assert row.url.startswith("https://") or row in (files.EMBEDDED, files.EMBEDDED_DETECTOR, files.VIDEO)
        assert row.model in (*models.names(), *TORCHVISION) and row.licence and row.page
    for model in {row.model for row in WEIGHTS}:
        first = files.find(model)  # what `auto` takes
        assert first is not None and first.skeleton == ("" if model in TORCHVISION else "coco17")
    assert files.find("detrpose_hgnetv2_s_crowdpose") is files.find("detrpose_hgnetv2_s_crowdpose.pth") is not None
    assert files.find("detrpose_y") is None


@pytest.mark.parametrize(("name", "model"), [
    ("embedded", "simplebaseline_lite"), ("detrpose", "detrpose_n"), ("detrpose_s", "detrpose_s"),
])  # fmt: skip
def test_weights_are_found_by_every_name_of_their_model(name: str, model: str) -> None:
    row = files.find(name)
    assert row is not None and row.model == model


def test_what_comes_with_the_package_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "sources").mkdir()
    (tmp_path / "package").mkdir()
    monkeypatch.setattr(files, "SHIPPED", tmp_path / "package")
    with pytest.raises(WeightsError, match=r"package/simplebaseline_lite\.safetensors .*is missing: install pave_ros"):
        files.resolve("auto", files.EMBEDDED.model)
    source = tmp_path / "sources" / files.EMBEDDED.name
    source.touch()
    (tmp_path / "package" / files.EMBEDDED.name).symlink_to(source)  # as `colcon build --symlink-install` has it
    for weights, model in (
        ("auto", "simplebaseline_lite"),
        ("simplebaseline_lite", "detrpose_n"),
        ("simplebaseline_lite.safetensors", "detrpose_n"),
    ):
        assert files.resolve(weights, model) == source
    assert not (tmp_path / "cache").exists()


def test_cache_is_the_users_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path))
    assert files.cache_dir() == tmp_path / "weights"
    monkeypatch.delenv(files.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files.cache_dir() == tmp_path / "xdg" / "pave_ros" / "weights"


@pytest.mark.parametrize("kind", ["ranges", "whole", "moved"])
@pytest.mark.parametrize("known", [{}, {"size": len(CONTENT), "sha256": SHA256}, {"sha256": SHA256[:8]}])
def test_download(server: Server, kind: str, known: dict[str, object]) -> None:
    row = server.row(kind, **known)
    assert files.download(row) == row.path and row.path.read_bytes() == CONTENT
    assert row.cached and not part(row).exists()
    asked = len(server.requests)
    assert files.download(row) == row.path and len(server.requests) == asked  # from the cache now


def test_interrupted_download_continues(server: Server) -> None:
    row = server.row("ranges", sha256=SHA256)
    leave_part(row, CONTENT[:300_000])
    assert files.download(row).read_bytes() == CONTENT
    assert server.requests == ["bytes=300000-"]


def test_server_that_cannot_continue_starts_over(server: Server) -> None:
    row = server.row("whole", sha256=SHA256)
    leave_part(row, b"x" * 300_000)
    assert files.download(row).read_bytes() == CONTENT


def test_complete_part_needs_nothing_more(server: Server) -> None:
    row = server.row("ranges", sha256=SHA256)
    leave_part(row, CONTENT)
    assert files.download(row).read_bytes() == CONTENT


def test_part_longer_than_the_file_is_dropped(server: Server) -> None:
    row = server.row("ranges")
    leave_part(row, CONTENT + b"more")
    assert files.download(row).read_bytes() == CONTENT


def test_broken_connection_is_taken_up_again(server: Server) -> None:
    row = server.row("cut", sha256=SHA256)
    assert files.download(row).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=400000-", "bytes=800000-"]


def test_connection_that_keeps_breaking_leaves_its_part_for_the_next_time(server: Server) -> None:
    row = server.row("cut", sha256=SHA256)
    server.cut_after = 100_000
    with pytest.raises(WeightsError, match="broke after 300000 of 1000000 bytes"):
        files.download(row)
    assert part(row).stat().st_size == 300_000 and not row.cached
    server.cuts = 0
    assert files.download(row).read_bytes() == CONTENT


def test_a_file_that_was_thrown_away_meanwhile_is_begun_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process had the lock, and got a web page."""
    row = server.row("ranges", sha256=SHA256)
    lock, thrown = files.fcntl.flock, []

    def waited(file: object, operation: int) -> None:
        if not thrown:
            thrown.append(row.path.with_name(row.name + ".part").unlink())
        lock(file, operation)

    monkeypatch.setattr(files.fcntl, "flock", waited)
    assert files.download(row).read_bytes() == CONTENT and thrown


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"sha256": "0" * 64}, f"SHA-256 {SHA256} instead of 0000"),
        ({"sha256": "0" * 8}, f"SHA-256 {SHA256} instead of 00000000; it was deleted"),
        ({"size": 999_999}, "1000000 bytes came instead of 999999"),
    ],
)
def test_wrong_content_is_deleted(server: Server, known: dict[str, object], message: str) -> None:
    row = server.row("ranges", **known)
    with pytest.raises(WeightsError, match=message):
        files.download(row)
    assert list(row.path.parent.iterdir()) == []


def test_web_page_is_no_weights(server: Server) -> None:
    row = server.row("html")
    with pytest.raises(WeightsError, match="a web page came"):
        files.download(row)
    assert not row.cached


def test_file_that_is_gone(server: Server) -> None:
    with pytest.raises(WeightsError, match="404"):
        files.download(server.row("nothing"))


def test_no_network_says_what_to_do(server: Server) -> None:
    row = replace(server.row("ranges"), url="http://127.0.0.1:9/weights.pth")
    with pytest.raises(WeightsError) as error:
        files.download(row)
    message = str(error.value)
    assert "no connection" in message and "pave_ros weights download weights.pth" in message
    assert row.url in message and str(row.path) in message


def test_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="cache"):
        files.download(server.row("ranges"))


def test_two_processes_fetch_it_once(server: Server) -> None:
    row = server.row("ranges", sha256=SHA256)
    script = (
        "from pave_ros.checkpoints import files; import sys;"
        f"files.download(files.WeightsFile('weights.pth', 'm', 's', {row.url!r}, '', ''))"
    )
    runs = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert row.path.read_bytes() == CONTENT and server.requests == [None]


def test_redirect_from_https_to_http_is_refused() -> None:
    request = urllib.request.Request("https://example.org/a")
    handler = files._StaySecure()
    with pytest.raises(urllib.error.URLError, match="refusing"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/a")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://example.org/b") is not None


def test_resolve(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = server.row("ranges")
    monkeypatch.setattr(files, "WEIGHTS", (row,))
    mine = tmp_path / "mine.pth"
    mine.touch()
    assert files.resolve(mine, "detrpose_n") == mine
    assert files.resolve("auto", "detrpose_n") == row.path and row.cached
    assert files.resolve("weights.pth", "detrpose_s") == files.resolve("weights", "detrpose_s") == row.path
    with pytest.raises(WeightsError, match="no weights are published for detrpose_s"):
        files.resolve("auto", "detrpose_s")
    with pytest.raises(FileNotFoundError, match=r"other.pth: no such weights file.*weights list"):
        files.resolve("other.pth", "detrpose_n")


def test_a_file_of_nothing_is_no_weights(server: Server, tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    row = replace(server.row("ranges"), url=(tmp_path / "empty.pth").as_uri())
    with pytest.raises(WeightsError, match="0 bytes came instead of the file; they were deleted"):
        files.download(row)
    assert not row.cached and not part(row).exists()


def test_a_checksum_may_be_written_in_capitals(server: Server) -> None:
    assert files.download(server.row("ranges", sha256=SHA256.upper())).read_bytes() == CONTENT
