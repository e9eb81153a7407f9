"""LeRobot datasets on disk: reading v2.1 and v3.0 in place, recording v3.0 that LeRobot loads."""
