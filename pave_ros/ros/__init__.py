"""The ROS 2 side: the node, the camera, the demo, and what turns messages into arrays and back.

The only room that imports rclpy.
"""
