"""Diagnostics: once a second, with everything that a person needs to see what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from peer import Peer, Process, StandIn, wait_for
from rclpy.lifecycle import TransitionCallbackReturn

from pave_ros.ros.diagnostics import DETECTING, Reporter, Statistics
from pave_ros.ros.messages import nanoseconds
from pave_ros.ros.node import PoseNode

VALUES = {
    "history (MB)", "images without boxes", "results without depth", "detector",
    "state", "fps in", "fps out", "age of results (ms)", "inference (ms)", "people", "images received", "results",
    "dropped", "unreadable images", "failed images", "last problem", "model", "engine", "device", "precision",
    "engine is", "faster engine", "input size", "weights", "trained",
}  # fmt: skip


def test_a_node_at_work_reports_all_values_once_a_second(robot: Process, peer: Peer) -> None:
    diagnostics = peer.diagnostics("/robot1/pose_node")
    diagnostics.wait_for(state="detecting")
    before = len(diagnostics.reports)
    wait_for(lambda: len(diagnostics.reports) >= before + 6, "six more reports")
    stamps = [nanoseconds(a.header.stamp) for a in diagnostics._inbox if a.status[0].name.startswith("robot1/")]
    # On average: a busy machine delays one report and not the next.
    assert 0.6 < (stamps[-1] - stamps[-6]) / 5e9 < 4
    values = diagnostics.values
    assert set(values) == VALUES
    assert (values["model"], values["device"], values["engine"]) == ("detrpose_n", "cpu", "pytorch")
    assert (values["input size"], values["trained"]) == ("32x32", "no")
    wait_for(lambda: float(diagnostics.values["fps out"]) > 0, "results")
    values = diagnostics.values
    assert float(values["fps in"]) > 0 and float(values["inference (ms)"] or 1) > 0
    status = diagnostics.reports[-1]
    assert status.name == "robot1/pose_node: pose estimation" and status.hardware_id == "cpu"
    assert status.level == DiagnosticStatus.WARN and "untrained" in status.message


def test_reports_go_on_while_simulated_time_stands_still(peer: Peer, make_node: Callable[..., Any]) -> None:
    node: PoseNode = make_node(use_sim_time=True)[0]
    diagnostics = peer.diagnostics(node.get_fully_qualified_name())
    wait_for(lambda: len(diagnostics.reports) > 2, "reports")


def test_a_model_that_cannot_be_loaded_is_an_error(
    peer: Peer, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    node: PoseNode = make_node(autostart=False)[0]

    def fail(**options: Any) -> None:
        raise FileNotFoundError("no weights\nanywhere")

    monkeypatch.setattr("pave_ros.estimator.Estimator", fail)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    diagnostics = peer.diagnostics(node.get_fully_qualified_name())
    diagnostics.wait_for(state="unconfigured")
    assert diagnostics.reports[-1].level == DiagnosticStatus.ERROR
    assert diagnostics.reports[-1].message == "no weights anywhere"


class Clock:
    """A time that the test sets, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("pave_ros.ros.diagnostics.monotonic", lambda: self.now)


def test_rates_and_means_are_those_since_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    counted = Statistics()
    reporter = Reporter("/front/pose_node", counted, {"device": "cuda:0"}, DETECTING, _time=clock.now)

    def report() -> tuple[Any, dict[str, str]]:
        clock.now += 2.0
        status = reporter.report()
        return status, {item.key: item.value for item in status.values}

    counted.received, counted.published, counted.dropped = 60, 20, 40
    counted.inference, counted.age = 0.2, 0.6
    status, values = report()
    assert (status.level, status.message) == (DiagnosticStatus.OK, "10.0 results per second")
    assert (values["fps in"], values["fps out"], values["dropped"]) == ("30.0", "10.0", "40")
    assert (values["inference (ms)"], values["age of results (ms)"]) == ("10.0", "30.0")
    counted.received, counted.unreadable, counted.problem = 61, 1, "step 3 is less"
    status, values = report()
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "step 3 is less")
    assert values["inference (ms)"] == ""
    status, values = report()
    assert status.level == DiagnosticStatus.OK, "the last one is over"
    assert (values["fps out"], values["last problem"]) == ("0.0", "step 3 is less")
    status, _ = report()
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "no image for 4 s")
    reporter.advice = "switch the camera on"
    assert report()[0].message == "switch the camera on"
    counted.failed, counted.received, counted.problem = 1, 62, "out of memory"
    status, _ = report()
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, "out of memory")


def test_a_report_right_after_another_tells_the_rates_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services and transitions report at once."""
    clock, counted = Clock(monkeypatch), Statistics()
    reporter = Reporter("/pose_node", counted, {}, DETECTING, _time=clock.now)

    def report(seconds: float, images: int) -> dict[str, str]:
        clock.now += seconds
        counted.received, counted.published = counted.received + images, counted.published + images
        return {item.key: item.value for item in reporter.report().values}

    counted.people = 2
    assert report(1.0, 10)["fps out"] == "10.0"
    assert report(0.01, 1)["fps in"] == report(0.01, 0)["fps in"] == "10.0"
    assert report(0.98, 9)["fps out"] == "10.0", "and the images of meanwhile count in the next"
    assert report(2.0, 0)["people"] == "2"
    assert report(1.0, 0)["people"] == "", "nobody has looked for a while"


def test_images_that_cannot_be_answered_for_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too old each of them, or without boxes; but not a model that is slow."""
    clock, counted = Clock(monkeypatch), Statistics()
    reporter = Reporter("/pose_node", counted, {"trained": "yes"}, DETECTING, _time=clock.now)

    def judged(**more: int) -> tuple[Any, str]:
        clock.now += 1.0
        counted.received += 30
        for name, count in more.items():
            setattr(counted, name, getattr(counted, name) + count)
        status = reporter.report()
        return status.level, status.message

    counted.problem = "image is 90.0 s old"
    assert judged(dropped=30, too_old=30) == (DiagnosticStatus.WARN, "image is 90.0 s old")
    assert judged(dropped=30, too_old=20, published=1)[0] == DiagnosticStatus.OK
    assert judged(dropped=30)[0] == DiagnosticStatus.OK
    level, message = judged(without_boxes=30)
    assert level == DiagnosticStatus.WARN and "remap `boxes`" in message
    assert judged(without_boxes=20, published=10)[0] == DiagnosticStatus.OK


def test_the_diagnostics_go_on_while_a_model_loads(
    peer: Peer, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take minutes to fetch its weights."""
    node: PoseNode = make_node(autostart=False)[0]
    go = threading.Event()

    def load(**options: Any) -> StandIn:
        assert go.wait(60)
        return StandIn()

    monkeypatch.setattr("pave_ros.estimator.Estimator", load)
    diagnostics = peer.diagnostics(node.get_fully_qualified_name())
    thread = threading.Thread(target=node.trigger_configure)
    thread.start()
    wait_for(lambda: sum(r.message == "loading the model" for r in diagnostics.reports) > 2, "reports of the loading")
    go.set()
    thread.join()
    diagnostics.wait_for(state="inactive")


def test_silence_counts_only_while_images_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    reporter = Reporter("/pose_node", Statistics(), state="inactive", _time=clock.now)
    clock.now += 300
    assert reporter.report().message == "inactive"
    reporter.state = DETECTING
    clock.now += 0.5
    assert reporter.report().level == DiagnosticStatus.OK


def test_the_diagnostics_tell_how_far_a_faster_engine_is(peer: Peer, make_node: Callable[..., Any]) -> None:
    node, estimator = make_node()
    diagnostics = peer.diagnostics(node.get_fully_qualified_name())
    diagnostics.wait_for(**{"engine": "pytorch", "engine is": "asked for", "faster engine": "none is being built"})
    estimator.engine_status = "tensorrt is being built: 35% (12 s)"
    diagnostics.wait_for(**{"engine": "pytorch", "faster engine": "tensorrt is being built: 35% (12 s)"})
    estimator.engine, estimator.engine_status = "tensorrt", "tensorrt was built and has taken over (90 s)"
    diagnostics.wait_for(**{"engine": "tensorrt", "faster engine": "tensorrt was built and has taken over (90 s)"})


def test_the_history_is_told_in_megabytes() -> None:
    reporter = Reporter("/pose_node", Statistics(memory=2_500_000), _time=0.0)
    assert {item.key: item.value for item in reporter.report().values}["history (MB)"] == "2.5"


def test_results_without_depth_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    counted = Statistics(received=30, published=30, without_depth=1, problem="no depth image")
    reporter = Reporter("/pose_node", counted, {}, DETECTING, _time=clock.now)
    clock.now += 1.0
    status = reporter.report()
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "no depth image")
    clock.now += 1.0
    counted.published = 60
    assert reporter.report().level == DiagnosticStatus.OK, "it is there again"
