"""How each top-down system cuts crops, reads heatmaps and finds people."""

from __future__ import annotations

from dataclasses import dataclass

from pave_ros.detection import TORCHVISION


@dataclass(frozen=True)
class Style:
    """How a system cuts crops and reads heatmaps.

    Attributes:
        udp: the way of counting coordinates, see `pave_ros.topdown.crops`.
        blur: side in pixels of the Gaussian that DARK smooths heatmaps with: as wide as the one in its targets.
        decoding: that it is published with.
        detector: what finds the people for it, unless another is asked for.
        closer: (height, width) of the detector's input when it takes a closer look, which finds smaller people and may
            miss large ones; None never does.
        least_box: confidence down to which boxes are looked at in evaluation.
        same: similarity from which two people are one, who was found twice or in part; above 1 keeps all, as published.
        power: that the scores of keypoints are raised to, which brings the one from which they are drawn to that of the
            other models.
        box_power: that the box's score is raised to in the person's: little where the network can tell that nobody is
            there, and so knows better than the detector; 1 as published.
        follow: people are also looked for where they were a frame before, with this share of their box's score; 0 does
            not, as published.
        detect_every: frames from one in which people are looked for to the next, where people are followed; between,
            they are where they were.
        whole: where no box is certain, or shows somebody of the frame before, the whole picture is looked at first, and
            then a box of this score around whoever fills it; for networks that can tell that nobody is there. 0 does
            not, as published.
        again: who is new is looked at once more, in a mirror, and once more still if their keypoints then fill another
            box, which overlaps the one looked at by less than this; 0 does not, as published.
        smooth: keypoints are smoothed over time, see `pave_ros.smoothing`, unless otherwise asked for; not published.
        spread: of networks whose heatmaps are probabilities over the cells, standard deviation in cells of the spot of
            height 1 around a joint whose place is known; 0 for the others.
    """

    udp: bool
    blur: int
    decoding: str
    detector: str = TORCHVISION[0]
    closer: tuple[int, int] | None = None
    least_box: float = 0.2
    same: float = 2.0
    power: float = 1.0
    box_power: float = 1.0
    follow: float = 0.0
    detect_every: int = 1
    whole: float = 0.0
    again: float = 0.0
    smooth: bool = False
    spread: float = 0.0


# System -> style. DARK's filter fits the deviation of the targets: 3 in TAR-ViTPose, 2 in ViTPose, 1.5 in ours.
STYLES = {
    "tarvitpose": Style(udp=False, blur=17, decoding="quarter"),
    "vitpose": Style(udp=True, blur=11, decoding="dark"),
    "simplebaseline": Style(
        udp=True,
        blur=7,
        decoding="oks",
        detector="centernet_lite",
        closer=(544, 544),
        least_box=0.02,
        same=0.5,
        power=0.6,
        box_power=0.2,
        follow=0.8,
        detect_every=2,
        whole=0.7,
        again=0.8,
        smooth=True,
        spread=1.5,
    ),
}
