"""What may be chosen of the two stages."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pave_ros import models
from pave_ros.topdown.heatmaps import DECODINGS
from pave_ros.topdown.styles import STYLES


@dataclass(frozen=True)
class TopDownOptions:
    """What may be chosen of the two stages.

    Attributes:
        detector: what finds the boxes, see `pave_ros.detection.open_detector`; the name of a pose model takes the boxes
            around its people; ``given`` expects boxes to come with the pictures; ``auto`` is the model's own choice.
        detector_weights: of a torchvision detector or a pose model: ``auto``, a path, or ``random``.
        box_threshold: boxes below this confidence are not looked at, 0..1 (published: 0.2).
        decoding: see `pave_ros.topdown.heatmaps.keypoints_in`; ``auto`` for the one that the model is published with.
        flip_test: look at every crop mirrored too, and take the mean.
        reuse_features: encode every crop once and link them from frame to frame. False cuts the box of the frame in
            question out of all frames anew, as the published evaluation does: as many times slower as the window is
            long.
        detect_every: frames of a stream from one in which people are looked for to the next, for models that follow
            them; between, they are looked at where they were. Whoever comes in is seen up to twice as many frames
            later, for the plain look and the closer one take turns. 0 is the model's own choice.
        closer_look: take the closer look that the embedded model's first stage has, which shows small people; without
            it a single picture takes little more than half the time.
    """

    detector: str = "auto"
    detector_weights: str = "auto"
    box_threshold: float = 0.2
    decoding: str = "auto"
    flip_test: bool = False
    reuse_features: bool = True
    detect_every: int = 0
    closer_look: bool = True

    @classmethod
    def names(cls) -> list[str]:
        """Of all of them."""
        return [option.name for option in fields(cls)]

    def __post_init__(self) -> None:
        if not 0 <= self.box_threshold <= 1:
            raise ValueError(f"box_threshold has to be between 0 and 1, not {self.box_threshold}")
        if self.detect_every < 0:
            raise ValueError(f"detect_every has to be 0 or more, not {self.detect_every}")
        if self.decoding not in ("auto", *DECODINGS):
            raise ValueError(f"unknown decoding {self.decoding!r}; known: auto, {', '.join(DECODINGS)}")


def least_box(model: str) -> float:
    """The confidence down to which boxes are looked at where average precision counts everybody, of a top-down model;
    `TopDownOptions.box_threshold` is for use, where nobody sees people as unsure as that."""
    style = STYLES.get(models.split_name(model)[0])
    return style.least_box if style else TopDownOptions.box_threshold
