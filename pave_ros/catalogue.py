"""The models side by side: what `pave_ros models` prints and docs/models.md shows. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from pave_ros import models
from pave_ros.checkpoints import files

COLUMNS = ("model", "parameters", "GFLOPs", "input", "AP (authors)", "one core", "weights")


@dataclass(frozen=True)
class System:
    """What one of the systems is for.

    Attributes:
        title: its name as published, with its authors.
        good_for: when to take it.
        keypoint_score: what the score of a single keypoint means.
    """

    title: str
    good_for: str
    keypoint_score: str


SYSTEMS = {
    "detrpose": System(
        "DETRPose (Janampa and Pattichis, 2025)",
        "Live cameras: the least time for its accuracy, whatever the number of people.",
        "its person's score",
    ),
    "pavenet": System(
        "PAVE-Net (Yu et al., 2025), and PETR (Shi et al., 2022) for single pictures",
        "Video in which people hide each other or blur: three frames tell more than one, without a detector.",
        "how exactly its place is known, times its person's score; of PETR always 1, as published",
    ),
    "tarvitpose": System(
        "TAR-ViTPose (Fang et al., 2026)",
        "The most exact joints in video of few people; two stages, so the time grows with their number.",
        "height of its heatmap times the score of its box",
    ),
    "poet": System(
        "POET (Stoffl, Vidal and Mathis, 2021)",
        "Visibility of each keypoint; a simple model to train on one's own animals.",
        "how sure it is that the keypoint is visible",
    ),
    "querypose": System(
        "QueryPose (Xiao et al., 2022)",
        "Crowds, with the models' own boxes, on a GPU that is not in a hurry.",
        "how exactly its place is known",
    ),
    "vitpose": System(
        "ViTPose (Xu et al., 2022)",
        "The two stages of TAR-ViTPose for single pictures.",
        "height of its heatmap times the score of its box",
    ),
    "centernet": System(
        "CenterNet (Zhou et al., 2019) as in MoveNet, trained on by the project",
        "Finds the people for the embedded model; alone, twice as fast and rough.",
        "how clearly its place shows",
    ),
    "simplebaseline": System(
        "Simple baseline (Xiao et al., 2018) with MoveNet's backbone, trained on by the project",
        "CPUs, and out of the box: its weights and those of its detector come with the package.",
        "how sure its place is, times the score of its box",
    ),
}

# Model -> AP that its authors report, and on what.
AP = {
    "detrpose_n": "57.2, COCO val",
    "detrpose_s": "67.0, COCO val",
    "detrpose_m": "69.4, COCO val",
    "detrpose_l": "72.5, COCO val",
    "detrpose_x": "73.3, COCO val",
    "pavenet_r50": "77.7, PoseTrack17 val",
    "pavenet_hrnet_w48": "80.1, PoseTrack17 val",
    "pavenet_swin_l": "81.3, PoseTrack17 val",
    "poet_r50": "54, COCO",
    "querypose_hrnet_w32_light": "69.8, COCO val",
    "querypose_hrnet_w48_light": "71.0, COCO val",
}

# Model -> millions of parameters, GFLOPs, input (height x width), milliseconds; from benchmarks/models.py.
MEASURED: dict[str, tuple[float, int, str, int]] = {
    "detrpose_n": (4.1, 9, "640x640", 181),
    "detrpose_s": (11.6, 34, "640x640", 466),
    "detrpose_m": (21.1, 69, "640x640", 702),
    "detrpose_l": (33.3, 110, "640x640", 1044),
    "detrpose_x": (74.4, 245, "640x640", 2107),
    "detrpose_lite": (5.3, 4, "320x320", 69),
    "pavenet_r50": (50.9, 390, "750x1333", 5418),
    "pavenet_swin_l": (221.0, 1644, "750x1333", 20108),
    "pavenet_hrnet_w48": (88.1, 861, "736x1344", 6961),
    "pavenet_petr_r50": (43.6, 392, "750x1333", 4872),
    "pavenet_petr_swin_l": (213.7, 1638, "750x1333", 19690),
    "pavenet_lite": (7.5, 5, "256x448", 118),
    "tarvitpose_s": (35.6, 41, "384x288", 390),
    "tarvitpose_b": (134.9, 127, "384x288", 1207),
    "tarvitpose_l": (388.4, 354, "384x288", 3530),
    "tarvitpose_h": (761.9, 684, "384x288", 6645),
    "poet_r50": (41.5, 190, "750x1333", 1822),
    "poet_dc5_r50": (41.5, 419, "750x1333", 3828),
    "querypose_r50": (322.6, 3381, "750x1333", 21395),
    "querypose_r50_light": (188.7, 3347, "750x1333", 18791),
    "querypose_hrnet_w32": (328.2, 3537, "750x1333", 18758),
    "querypose_hrnet_w32_light": (194.3, 3503, "750x1333", 19214),
    "querypose_hrnet_w48": (364.5, 3889, "750x1333", 20436),
    "querypose_hrnet_w48_light": (230.6, 3855, "750x1333", 20704),
    "querypose_swin_l": (493.9, 4643, "750x1333", 31758),
    "querypose_swin_l_light": (360.0, 4608, "750x1333", 31084),
    "vitpose_s": (24.3, 11, "256x192", 110),
    "vitpose_b": (90.0, 37, "256x192", 366),
    "vitpose_l": (308.5, 123, "256x192", 1245),
    "vitpose_h": (637.2, 252, "256x192", 2522),
    "centernet_lite": (4.7, 3, "320x320", 58),
    "simplebaseline_lite": (6.2, 2, "256x192", 34),
}


def rows() -> list[tuple[str, ...]]:
    """The cells of every model, in the order of `COLUMNS`; empty where nothing is known."""
    return [_row(name) for name in models.names()]


def _row(name: str) -> tuple[str, ...]:
    parameters = gflops = size = time = ""
    if measured := MEASURED.get(name.removesuffix("_corrected")):  # The same network.
        parameters, gflops, size, time = f"{measured[0]} M", str(measured[1]), measured[2], f"{measured[3]} ms"
    file = files.find(name)
    return name, parameters, gflops, size, AP.get(name, ""), time, file.name if file else ""


def _main() -> None:
    """Print the tables of docs/models.md."""
    print("|", " | ".join(COLUMNS), "|\n|" + " --- |" * len(COLUMNS))
    for name, *cells in rows():
        print("|", " | ".join((f"`{name}`", *cells)), "|")
    print("\n| system | good for | the score of a keypoint |\n| --- | --- | --- |")
    for name, system in SYSTEMS.items():
        print(f"| `{name}`: {system.title} | {system.good_for} | {system.keypoint_score} |")


if __name__ == "__main__":
    _main()
