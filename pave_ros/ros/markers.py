"""People as markers for RViz: joints, limbs and a label per person.

Without depth a person stands on a plane at a fixed distance in front of the camera, where the rays of the picture's
pixels meet it.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from pave_ros.drawing import hue
from pave_ros.persons import Persons
from pave_ros.ros.pinhole import Camera, Positions
from pave_ros.skeletons import Skeleton

NAMESPACES = ("joints", "limbs", "label")


def color(identity: int) -> ColorRGBA:
    """The same colour for the same person, and the same hue as in the annotated image."""
    red, green, blue = hsv_to_rgb(hue(identity), 0.85, 1.0)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


class Markers:
    """Makes the marker arrays of one camera and remembers who was shown, to take away those who left.

    Args:
        skeleton: of the people.
        camera: name that the markers' namespaces begin with, for several cameras on one topic; empty for none.
    """

    def __init__(self, skeleton: Skeleton, camera: str = "") -> None:
        self._skeleton = skeleton
        self._namespaces = [f"{camera}/{name}" if camera else name for name in NAMESPACES]
        self._shown: set[int] = set()
        self._header = Header()

    def make(
        self,
        persons: Persons,
        header: Header,
        camera: Camera,
        positions: Positions | None = None,
        *,
        distance: float,
        scale: float,
        lifetime: float,
    ) -> MarkerArray:
        """Markers of the people of one picture; keypoints that are NaN are left out.

        Args:
            persons: their track ids become the ids of the markers; the untracked are numbered as they come.
            header: of the picture.
            camera: its intrinsics.
            positions: (N, K, 3) metres where depth is known; who has none stands on the plane.
            distance: metres between the camera and the plane on which people without depth stand.
            scale: metres, diameter of a joint.
            lifetime: seconds until a marker vanishes by itself; 0 for never.
        """
        template = {"header": header, "lifetime": _duration(lifetime)}
        away = np.full(len(persons), distance)
        places = camera.project(persons.keypoints[..., :2], away[:, None])
        if positions is not None:
            seen = np.isfinite(positions[..., 2])
            for i in np.flatnonzero(seen.any(1)).tolist():
                places[i] = np.where(np.isnan(places[i]), np.nan, positions[i])
                away[i] = np.median(positions[i, seen[i], 2])
        labels = camera.project(persons.boxes[:, :2] + persons.boxes[:, 2:] * (0.5, 0.0), away)
        markers: list[Marker] = []
        joints, limbs, label = self._namespaces
        identities = [track if track >= 0 else i for i, track in enumerate(persons.track_ids.tolist())]
        for i, identity in enumerate(identities):
            look = {**template, "id": identity, "color": color(identity), "action": Marker.ADD}
            markers.append(_points(Marker.SPHERE_LIST, joints, places[i], scale, look))
            ends = places[i][np.array(self._skeleton.edges)]
            markers.append(_points(Marker.LINE_LIST, limbs, ends[~np.isnan(ends).any((1, 2))], scale / 2, look))
            markers.append(_label(label, f"{identity}:{persons.scores[i]:.2f}", labels[i], scale, look))
        left = self._shown - set(identities)
        self._shown, self._header = set(identities), header
        return MarkerArray(markers=markers + self._without(left))

    def none(self) -> MarkerArray:
        """Takes away whoever is shown."""
        left, self._shown = self._shown, set()
        return MarkerArray(markers=self._without(left))

    def _without(self, identities: set[int]) -> list[Marker]:
        """Take away these people."""
        return [
            Marker(header=self._header, ns=ns, id=identity, action=Marker.DELETE)
            for identity in sorted(identities)
            for ns in self._namespaces
        ]


def _points(kind: int, ns: str, positions: npt.NDArray[np.float64], size: float, look: dict[str, Any]) -> Marker:
    marker = Marker(type=kind, ns=ns, **look)
    marker.scale.x = marker.scale.y = marker.scale.z = size
    marker.pose.orientation.w = 1.0
    flat = positions.reshape(-1, 3)
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in flat[~np.isnan(flat).any(1)].tolist()]
    if not marker.points:  # RViz complains of a list without points, and leaves the last one standing
        marker.action = Marker.DELETE
    return marker


def _label(ns: str, text: str, position: npt.NDArray[np.float64], scale: float, look: dict[str, Any]) -> Marker:
    marker = Marker(type=Marker.TEXT_VIEW_FACING, ns=ns, text=text, **look)
    marker.scale.z = 3 * scale
    marker.pose.orientation.w = 1.0
    x, y, z = np.nan_to_num(position).tolist()
    marker.pose.position = Point(x=x, y=y - 2 * scale, z=z)
    return marker


def _duration(seconds: float) -> Duration:
    sec, nanosec = divmod(round(seconds * 1e9), 10**9)
    return Duration(sec=sec, nanosec=nanosec)
