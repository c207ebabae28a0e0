"""What rclpy's lifecycle nodes lack before Kilted."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import LifecycleNode


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Answer the request for a transition that the node's state does not allow with no, and go on.

    In Humble and Jazzy rcl's error leaves the executor instead, which ends the process of whoever spins the node.
    """
    if not hasattr(node, "_service_change_state"):  # made without services
        return
    service = node._service_change_state
    change = service.callback

    def answer(request: Any, response: Any) -> Any:
        try:
            return change(request, response)
        except RuntimeError as error:  # RCLError
            node.get_logger().error(f"transition {request.transition.id or request.transition.label!r}: {error}")
            response.success = False
            return response

    service.callback = answer
