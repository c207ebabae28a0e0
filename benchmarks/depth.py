"""How near to the truth keypoints in metres are: the model's pixels and depth images of the synthetic scene.

    python benchmarks/depth.py
    python benchmarks/depth.py --model detrpose_s --plot docs/images/depth.jpg

Every keypoint that is sure (0.3) and in the picture counts, of people who were found; the error is the distance to the
true joint, which lies within the body, where a depth camera sees the surface. Beside it: the depth of the one pixel
under the keypoint. With noise, the depth images have that of a stereo camera, 3 mm at one metre, growing with the
square of the distance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import numpy.typing as npt
from std_msgs.msg import Header

from pave_ros import Estimator
from pave_ros.drawing import draw
from pave_ros.persons import Persons
from pave_ros.ros import depth, depth_images
from pave_ros.ros.camera import camera_info
from pave_ros.ros.pinhole import Camera, Positions
from pave_ros.skeletons import get
from pave_ros.synthetic import Scene, SyntheticFrame

SIZE = (480, 640)
SURE = 0.3
NOISE = 0.003  # metres at one metre
SAME = 0.1  # mean distance in the picture, of a person's size, up to which somebody is who they were taken for
Lift = Callable[[Persons, npt.NDArray[np.float32], Camera], Positions]


def camera_of(frame: SyntheticFrame) -> Camera:
    camera = Camera.of(SIZE, camera_info(Header(), SIZE[1], SIZE[0], frame.focal))
    assert camera is not None
    return camera


def measured(persons: Persons, metres: npt.NDArray[np.float32], camera: Camera) -> Positions:
    return depth.positions(persons, depth_images.write(metres, Header()), SIZE, camera)


def single_pixels(persons: Persons, metres: npt.NDArray[np.float32], camera: Camera) -> Positions:
    xy = np.rint(np.nan_to_num(persons.keypoints[..., :2], nan=-1)).astype(int)
    inside = ((xy >= 0) & (xy < SIZE[::-1])).all(-1)
    x, y = np.where(inside, xy[..., 0], 0), np.where(inside, xy[..., 1], 0)
    return camera.project(persons.keypoints[..., :2], np.where(inside, metres[y, x], np.nan))


def errors(frame: SyntheticFrame, persons: Persons, positions: Positions) -> list[float]:
    """Metres between the positions of those who were found and the true ones, of what is sure and in the picture."""
    found: list[float] = []
    truth = frame.persons.keypoints[..., :2]
    for k in range(len(persons)) if len(truth) else ():
        apart = np.nanmean(np.linalg.norm(truth - persons.keypoints[k, :, :2], axis=-1), axis=1)
        j = int(apart.argmin())
        if apart[j] <= SAME * np.sqrt(frame.persons.boxes[j, 2:].prod()):
            counted = (frame.visibility[j] > 0) & (persons.keypoints[k, :, 2] >= SURE)
            found += np.linalg.norm(positions[k] - frame.positions[j], axis=-1)[counted].tolist()
    return found


def plot(frame: SyntheticFrame, persons: Persons, path: Path) -> None:
    """The picture with the people in it, and the same people from above beside where they are."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    positions = measured(persons, frame.depth, camera_of(frame))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), width_ratios=(4, 3), layout="constrained")
    left.imshow(draw(frame.image.copy(), persons, keypoint_threshold=SURE))
    left.set_axis_off()
    sure = persons.keypoints[..., 2] >= SURE
    for points, shown, color, name in (
        (frame.positions, np.ones(frame.positions.shape[:2], bool), "0.6", "true"),
        (positions, sure, "tab:red", "measured"),
    ):
        for i, person in enumerate(np.where(shown[..., None], points, np.nan)):
            for a, b in get(persons.skeleton).edges:
                right.plot(person[[a, b], 0], person[[a, b], 2], color=color, linewidth=2)
            right.scatter(person[:, 0], person[:, 2], s=14, color=color, label=name if i == 0 else None)
    right.set(
        aspect="equal",
        xlabel="metres to the right of the camera",
        ylabel="metres ahead",
        title="from above",
        xlim=(-2.2, 2.2),
    )
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 88})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--scenes", type=int, default=30, help="two pictures are taken of each")
    parser.add_argument("--plot", type=Path, help="write a picture of the first with three people or more")
    arguments = parser.parse_args()
    estimator, random = Estimator(arguments.model), np.random.default_rng(0)
    ways: dict[str, Lift] = {"pave_ros": measured, "one pixel": single_pixels}
    found: dict[tuple[str, str], list[float]] = {(way, kind): [] for way in ways for kind in ("exact", "noisy")}
    seconds: list[float] = []
    for seed in range(20, 20 + arguments.scenes):
        scene = Scene(seed=seed, width=SIZE[1], height=SIZE[0])
        for number in (100, 400):
            frame = scene.frame(number)
            persons = estimator(frame.image)
            exact = frame.depth
            noisy = exact + random.normal(0, NOISE, exact.shape).astype(np.float32) * exact**2
            if arguments.plot and len(persons) >= 3:
                plot(frame, persons, arguments.plot)
                arguments.plot = None
            for way, lift in ways.items():
                for kind, metres in (("exact", exact), ("noisy", noisy)):
                    start = perf_counter()
                    positions = lift(persons, metres, camera_of(frame))
                    if way == "pave_ros":
                        seconds.append(perf_counter() - start)
                    found[way, kind] += errors(frame, persons, positions)
    print(f"{'':22}keypoints  without depth  median (cm)  above 30 cm")
    for (way, kind), each in found.items():
        values = np.array(each)
        print(
            f"{way + ', ' + kind:22}{len(values):9}  {np.isnan(values).mean():12.1%}  "
            f"{np.nanmedian(values) * 100:11.1f}  {(values > 0.3).mean():11.1%}"
        )
    print(f"{np.median(seconds) * 1e3:.2f} ms a picture, with making the message")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
