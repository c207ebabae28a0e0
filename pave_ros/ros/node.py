"""The pose node: a lifecycle node with one model, which looks at the images of one camera or several.

What happens to a camera's images is in `pave_ros.ros.stream`. docs/node.md describes topics, services and parameters.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, wait
from time import monotonic
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from pave_ros.ros.clocks import STEADY
from pave_ros.ros.diagnostics import DETECTING
from pave_ros.ros.lifecycle import refuse_impossible_transitions
from pave_ros.ros.parameters import Parameters, Settings
from pave_ros.ros.process import run, shielded
from pave_ros.ros.stream import Stream

if TYPE_CHECKING:
    from pave_ros.estimator import Estimator

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PoseNode(LifecycleNode):
    """Configuring loads the model, activating subscribes and publishes, deactivating stops both, cleaning up frees
    the model. With the parameter `autostart` the first two happen by themselves.

    Attributes:
        streams: its cameras, in the order of `cameras`.
    """

    def __init__(self, **options: Any) -> None:
        # First, for what is refused below is destroyed too, at the latest when ROS shuts down.
        self.streams: list[Stream] = []
        self._estimator: Estimator | None = None
        self._loading: Future[None] | None = None
        self._deadline = 0.0  # by `monotonic()`, for the threads to end
        if options.get("automatically_declare_parameters_from_overrides"):
            raise ValueError("the pose node declares its parameters itself; leave that option out")
        super().__init__("pose_node", **options)
        refuse_impossible_transitions(self)
        self._parameters_of_node = Parameters(self)
        self.streams = [Stream(self, name, lambda: self.settings) for name in self.settings.cameras]
        self._working = False
        self._enabled = True
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(1.0, self._report, clock=STEADY)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)

    @property
    def settings(self) -> Settings:
        """The values of the parameters as they are now."""
        return self._parameters_of_node.settings

    def start(self) -> bool:
        """Configure and activate, if `autostart` says so. Returns whether that went well."""
        if not self.settings.autostart:
            return True
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    def stop(self) -> bool:
        """End the workers; called when the process ends. Returns whether no thread is in the model any more."""
        if self._estimator is not None:
            self._estimator.close()
        for stream in self.streams:
            stream.stop(timeout=0.0)
        # ros2 launch waits 5 s after SIGINT before it sends SIGTERM, and 5 s more before it kills.
        self._deadline = self._deadline or monotonic() + 4.0
        ended = all([stream.stop(max(0.0, self._deadline - monotonic())) for stream in self.streams])
        building = self._estimator is not None and self._estimator.building
        return ended and not building and (self._loading is None or self._loading.done())

    def destroy_node(self) -> None:
        """End all threads and give everything back to ROS."""
        self.stop()
        super().destroy_node()
        # rclpy forgets it, and with it the node's share of the middleware stays.
        self._state_machine.destroy_when_not_in_use()

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        return self._attempt(self._configure, self._free, "inactive", "unconfigured")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to subscribe and to publish."""
        super().on_activate(state)
        done = self._attempt(self._activate, self._halt, DETECTING if self._enabled else "disabled", "inactive")
        if done != SUCCESS:
            super().on_deactivate(state)  # of the publishers
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop subscribing and publishing; the model stays loaded."""
        self._halt()
        self._tell("inactive")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._free()
        self._tell("unconfigured")
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop whatever runs, for good."""
        self._halt()
        self._free()
        self._tell("finalized")
        return SUCCESS

    def _attempt(
        self, step: Callable[[], None], undo: Callable[[], None], done: str, failed: str
    ) -> TransitionCallbackReturn:
        """Take a step into the state `done`; when it raises, say why, undo it and go on in the state `failed`."""
        try:
            step()
        except Exception as error:  # a bad file can raise anything, and rclpy would swallow it without a word
            undo()
            reason = " ".join(str(error).split()) or type(error).__name__
            self.get_logger().error(reason)
            self._tell(failed, reason)
            return FAILURE
        self._tell(done, "")
        return SUCCESS

    def _configure(self) -> None:
        self._tell("loading the model")
        self._loading = shielded(self._load)
        while not self._loading.done():  # minutes, where weights are fetched: the diagnostics go on meanwhile
            wait([self._loading], timeout=1.0)
            self._report()
        self._loading.result()
        self._loading = None
        assert self._estimator is not None
        for stream in self.streams:
            stream.reporter.facts = _facts(self._estimator)
            stream.open()

    def _activate(self) -> None:
        assert self._estimator is not None
        topics = [stream.start(self._estimator) for stream in self.streams]
        self._working = True
        self.get_logger().info(f"waiting for images on {'; '.join(topics)}")

    def _load(self) -> None:
        """Load the model, into `_estimator` as soon as there is one: it may have to be closed before it is ready."""
        settings, log = self.settings, self.get_logger()
        log.info(f"loading {settings.model}, weights: {settings.weights}")
        # Here, because it takes seconds: a signal before the node exists could not be answered properly.
        from pave_ros.estimator import Estimator
        from pave_ros.topdown.options import TopDownOptions

        height, width = settings.input_size
        self._estimator = estimator = Estimator(
            model=settings.model,
            weights=settings.weights,
            device=settings.device,
            engine=settings.engine,
            input_size=(height, width) if height else None,
            precision=settings.precision,
            score_threshold=settings.score_threshold,
            max_persons=settings.max_persons,
            smoothing=settings.smoothing,
            build_apart=True,
            top_down=TopDownOptions(**{name: getattr(settings, name) for name in TopDownOptions.names()}),
        )
        if settings.lookahead > estimator.reach:
            raise ValueError(
                f"lookahead {settings.lookahead}: {estimator.name} looks at {estimator.reach} images on either side of "
                "the one it answers for, so it can wait for no more"
            )
        if settings.device == "auto" and estimator.device == "cpu":
            log.warning("no CUDA device was found: the model runs on the CPU, which is slow")
        log.info(
            f"{estimator.name} on {estimator.device} ({estimator.engine}: {estimator.engine_reason}), "
            f"input {estimator.input_size[0]}x{estimator.input_size[1]}, weights: {estimator.weights}"
        )
        if idle := settings.changed(estimator.idle_options):
            log.warning(f"with {estimator.name} these do nothing: {', '.join(idle)}")
        if not estimator.trained:
            log.warning("the weights are untrained: the skeletons mean nothing, only the way of the data is shown")
        estimator.warm_up()  # A stream that begins with seconds of silence loses its tracks.

    def _halt(self) -> None:
        for stream in self.streams:
            stream.halt()
        self._working = False

    def _free(self) -> None:
        for stream in self.streams:
            stream.close()
            stream.reporter.facts, stream.reporter.error = {}, ""
        on_gpu = self._estimator is not None and self._estimator.device.startswith("cuda")
        if self._estimator is not None:
            self._estimator.close()
        self._estimator = None
        gc.collect()
        if on_gpu:  # torch keeps freed memory for itself otherwise
            import torch

            torch.cuda.empty_cache()

    # Services, in the executor's thread

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = bool(request.data)
        for stream in self.streams:
            stream.enable(self._enabled)
        if self._working:
            self._tell(DETECTING if self._enabled else "disabled")
        response.success = True
        response.message = "enabled" if self._enabled else "disabled: images are not looked at"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._working
        for stream in self.streams:
            stream.reset()
        response.message = "history and tracks are forgotten" if response.success else "the node is not active"
        return response

    # Diagnostics

    def _tell(self, state: str, error: str | None = None) -> None:
        """Enter a state, with an error or without one where that changes, and report it at once: the next may take
        long."""
        for stream in self.streams:
            stream.reporter.state = state
            if error is not None:
                stream.reporter.error = error
        self._report()

    def _report(self) -> None:
        if self.context.ok():
            message = DiagnosticArray(header=Header(stamp=self.get_clock().now().to_msg()))
            for stream in self.streams:
                if stream.reporter.facts and self._estimator is not None:  # The engine may change.
                    stream.reporter.facts = _facts(self._estimator)
                message.status.append(stream.report())
            self._diagnostics.publish(message)


def _facts(estimator: Estimator) -> dict[str, str]:
    """What the diagnostics say of a loaded model."""
    return {
        "model": estimator.name,
        "engine": estimator.engine,
        "engine is": estimator.engine_reason,
        "faster engine": estimator.engine_status or "none is being built",
        "device": estimator.device,
        "precision": estimator.precision,
        "detector": estimator.detector or "none",
        "input size": f"{estimator.input_size[0]}x{estimator.input_size[1]}",
        "weights": estimator.weights,
        "trained": "yes" if estimator.trained else "no",
    }


def main(args: list[str] | None = None) -> int:
    """The pose node as a process. Returns its exit code."""
    # Read by OpenMP when torch loads. Threads that spin while they wait take the processor from the camera and from
    # all else that a robot runs; then single images take several times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run(PoseNode, args)


if __name__ == "__main__":
    sys.exit(main())
