"""What runs in LeRobot's own environment: the other end of the link for its policies, and its trainer under watch."""
