"""Published weights as rows of data, and how they come into the user's cache; those that the package brings along.
Needs no torch."""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any

import platformdirs
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pave_ros import models
from pave_ros.files import sha256

CACHE_VARIABLE = "PAVE_ROS_CACHE"
ATTEMPTS = 3  # so often a broken download is resumed
TIMEOUT = 20.0  # seconds without a byte
CHUNK = 1 << 18
RANDOM = "random"  # given as weights: untrained
SHIPPED = Path(str(resources.files("pave_ros"))) / "weights"  # what comes with the package


class WeightsError(RuntimeError):
    """Weights that are neither here nor could be fetched; the message says what to do."""


@dataclass(frozen=True)
class WeightsFile:
    """One published checkpoint, or one that comes with the package.

    Attributes:
        name: file name, also its name in the cache.
        model: the model that it fits, e.g. ``detrpose_s``.
        skeleton: keypoint layout of its head.
        url: where it is downloaded from; empty for what comes with the package.
        page: where its authors describe it.
        licence: of the weights, as SPDX identifier.
        size: bytes, None where it is not published.
        sha256: hexadecimal, all of it or how it begins; None where it is not published.
    """

    name: str
    model: str
    skeleton: str
    url: str
    page: str
    licence: str
    size: int | None = None
    sha256: str | None = None

    @property
    def path(self) -> Path:
        """Where it lies in the package or the cache, whether it is there or not."""
        # Where a colcon workspace links to the sources, the files that belong together lie together there.
        return cache_dir() / self.name if self.url else (SHIPPED / self.name).resolve()

    @property
    def cached(self) -> bool:
        try:
            return os.path.isfile(self.path)  # also where nobody may look
        except RuntimeError:  # or where there is no home directory
            return False


# The two stages of the embedded model: one person's crop, and before it all people of a picture; and the small video
# model.
EMBEDDED, EMBEDDED_DETECTOR, VIDEO = (
    WeightsFile(
        name=f"{model}.safetensors",
        model=model,
        skeleton="coco17",
        url="",
        page=page,
        licence="Apache-2.0",
    )
    for model, page in (
        ("simplebaseline_lite", "docs/embedded.md"),
        ("centernet_lite", "docs/embedded.md"),
        ("pavenet_lite", "docs/pavenet.md"),
    )
)

_DETRPOSE = "https://github.com/SebastianJanampa/DETRPose"
_MMPOSE = "https://github.com/open-mmlab/mmpose/tree/main/configs/body_2d_keypoint/topdown_heatmap/coco"
_QUERYPOSE = "https://github.com/buptxyb666/QueryPose"
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_OPENMMLAB = "https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco"
_TORCHVISION = "https://docs.pytorch.org/vision/stable/models.html#object-detection"

# The first row of a model is the one that `auto` takes. DETRPose publishes neither sizes nor checksums.
WEIGHTS: tuple[WeightsFile, ...] = tuple(
    WeightsFile(
        name=f"detrpose_hgnetv2_{variant}{suffix}.pth",
        model=f"detrpose_{variant}",
        skeleton=skeleton,
        url=f"{_DETRPOSE}/releases/download/model_weights/detrpose_hgnetv2_{variant}{suffix}.pth",
        page=_DETRPOSE,
        licence="Apache-2.0",
    )
    for skeleton, suffix in (("coco17", ""), ("crowdpose14", "_crowdpose"))
    for variant in "nsmlx"
) + (
    EMBEDDED,
    EMBEDDED_DETECTOR,
    VIDEO,
    # ViTPose, trained by MMPose. Of TAR-ViTPose only a folder is published that no program may read.
    *(
        WeightsFile(
            name=f"td-hm_ViTPose-{size}_8xb64-210e_coco-256x192-{mark}_20230314.pth",
            model=f"vitpose_{size[0]}",
            skeleton="coco17",
            url=f"{_OPENMMLAB}/td-hm_ViTPose-{size}_8xb64-210e_coco-256x192-{mark}_20230314.pth",
            page=_MMPOSE,
            licence="Apache-2.0",
        )
        for size, mark in (("small", "62d7a712"), ("base", "216eae50"), ("large", "53609f55"), ("huge", "e32adcd4"))
    ),
    # Of QueryPose only these two are published; the names are ours, since the folder they lie in shows none.
    *(
        WeightsFile(
            name=f"querypose_hrnet{width}_100pro_3x.pth",
            model=f"querypose_hrnet_w{width}_light",
            skeleton="coco17",
            url=_DRIVE + drive,
            page=_QUERYPOSE,
            licence="MIT",
        )
        for width, drive in ((32, "1NWdntVoKFz7KjcDjTGwmAHyEEcS2PWC5"), (48, "1SFECnDV97D_W9Ij4WjcX3BfbiNbGue67"))
    ),
    # Of POET the ResNet-50 model; the licence is that of the code it is linked from.
    WeightsFile(
        name="poet_ckpt.pth",
        model="poet_r50",
        skeleton="coco17",
        url="https://zenodo.org/records/7972042/files/poet_ckpt.pth",
        page="https://github.com/amathislab/poet",
        licence="Apache-2.0",
    ),
    # Person detectors, see `pave_ros.detection`; they give boxes and no keypoints.
    *(
        WeightsFile(
            name=name,
            model=model,
            skeleton="",
            url=f"https://download.pytorch.org/models/{name}",
            page=_TORCHVISION,
            licence="BSD-3-Clause",
            sha256=Path(name).stem.rpartition("-")[2],  # Its first digits are part of the name.
        )
        for model, name in (
            ("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
            ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
            ("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth"),
            ("fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth"),
            ("ssdlite320_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"),
        )
    ),
)


def cache_dir() -> Path:
    """Folder of downloaded weights: ``$PAVE_ROS_CACHE/weights``, else ``pave_ros/weights`` in the user's cache."""
    try:
        root = os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("pave_ros")
    except RuntimeError:
        raise RuntimeError(f"there is no home directory to keep files in; set {CACHE_VARIABLE} to a folder") from None
    return Path(root).expanduser() / "weights"


def find(name: str) -> WeightsFile | None:
    """The row of a file name (its ending may be left out), else the first row of a model, by any of its names, else
    None."""
    with suppress(ValueError):
        name = "_".join(models.split_name(name))
    for key in ("name", "model"):
        for row in WEIGHTS:
            if name in (getattr(row, key), Path(getattr(row, key)).stem):
                return row
    return None


def resolve(weights: str | Path, model: str) -> Path:
    """The file that `weights` means; downloaded first when it is a published one that is neither in the package nor in
    the cache.

    Args:
        weights: ``auto`` (what comes with the package or is published for `model`), a path, or the name of a file that
            the package knows.
        model: e.g. ``detrpose_s``.

    Raises:
        FileNotFoundError: neither a file nor a known name.
        WeightsError: nothing is published for the model, or the file could not be downloaded.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    row = find(model if weights == "auto" else str(weights))
    if row is None and weights == "auto":
        raise WeightsError(f"no weights are published for {model}; give the path of a file as weights")
    if row is None:
        raise FileNotFoundError(
            f"{weights}: no such weights file, and no published one of that name; `pave_ros weights list` shows them"
        )
    return download(row)


def download(row: WeightsFile) -> Path:
    """Fetch a published file into the cache, unless it is there or came with the package, and return its path.

    What an earlier, interrupted download left is continued. Size and SHA-256 are checked where they are known, and the
    file gets its name only when it is complete. Two processes may ask for the same file: one waits for the other.

    Raises:
        WeightsError: no network, no such file, not enough space, wrong content; the message says what to do.
    """
    if row.cached:
        return row.path
    if not row.url:
        raise WeightsError(f"{row.path} should have come with the package and is missing: install pave_ros again")
    part = row.path.with_name(row.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        while not row.cached:
            with part.open("ab") as out:
                fcntl.flock(out, fcntl.LOCK_EX)
                if not _is_at(out, part):
                    continue  # The process that held the lock has fetched it, or thrown away what came.
                try:
                    _fetch(row, out)
                    _verify(row, part)
                except _BadContent as error:
                    part.unlink()
                    raise WeightsError(_what_to_do(row, str(error))) from error
                part.replace(row.path)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(_what_to_do(row, _reason(error))) from error
    return row.path


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class _BadContent(Exception):  # noqa: N818
    """What came is not the file; nothing of it can be used."""


def _fetch(row: WeightsFile, out: IO[bytes]) -> None:
    """Append to `out` until the file is complete; an interruption is taken up again where it happened."""
    with _progress(row) as (progress, task):
        for attempt in range(ATTEMPTS):
            try:
                return _receive(row, out, progress, task)
            except urllib.error.URLError:
                raise  # no connection at all, or the server's refusal: asking again at once changes nothing
            except (OSError, http.client.HTTPException):
                if attempt == ATTEMPTS - 1:
                    raise


def _receive(row: WeightsFile, out: IO[bytes], progress: Progress, task: TaskID) -> None:
    """One request for what is missing in `out`; ConnectionError when less came than was announced."""
    have = out.seek(0, os.SEEK_END)
    request = urllib.request.Request(row.url, headers={"User-Agent": "pave_ros", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = _OPENER.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            if _total(error.headers) == have:
                return  # there was nothing left to fetch
            out.truncate(0)
            raise ConnectionError("the server has another file than the one begun") from error
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise _BadContent("a web page came instead of the file; is there a login page in the network?")
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:  # the server does not continue: from the start
            have = 0
            out.truncate(0)
        total = _total(response.headers)
        progress.update(task, total=total or row.size, completed=have)
        while chunk := response.read(CHUNK):
            out.write(chunk)
            have += len(chunk)
            progress.update(task, completed=have)
        out.flush()
    if total is not None and have < total:
        raise ConnectionError(f"the connection broke after {have} of {total} bytes")


def _total(headers: Any) -> int | None:
    """Size of the whole file as the server tells it: ``Content-Range: bytes 10-19/20``, else the content's length."""
    text = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"\d+", text) else None


def _verify(row: WeightsFile, path: Path) -> None:
    size = path.stat().st_size
    if size == 0 or (row.size is not None and size != row.size):
        raise _BadContent(f"{size} bytes came instead of {row.size or 'the file'}; they were deleted")
    if row.sha256 is None:
        return
    digest = sha256(path)
    if not digest.startswith(row.sha256.lower()):
        raise _BadContent(f"what came has the SHA-256 {digest} instead of {row.sha256}; it was deleted")


class _StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else."""

    def redirect_request(self, req: urllib.request.Request, *args: Any) -> urllib.request.Request | None:
        new_url = args[-1]
        if req.full_url.startswith("https:") and not new_url.startswith("https:"):
            raise urllib.error.URLError(f"refusing to go on from https to {new_url}")
        return super().redirect_request(req, *args)


_OPENER = urllib.request.build_opener(_StaySecure)


@contextmanager
def _progress(row: WeightsFile) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress, progress.add_task(f"downloading {row.name}", total=row.size)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}; see {error.url}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection: {error.reason}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _what_to_do(row: WeightsFile, reason: str) -> str:
    option, otherwise = "weights", "weights `random` tries everything without"
    if not row.skeleton:  # of a detector
        option, otherwise = "detector_weights", "the detector `embedded` needs no download"
    return (
        f"the weights {row.name} are not in the cache and could not be downloaded ({reason}). "
        f"Run `pave_ros weights download {row.name}` where there is a network, or save {row.url} as {row.path}, "
        f"or give the path of a file you have as {option}; {otherwise}"
    )
