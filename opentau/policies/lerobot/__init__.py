"""LeRobot's policies as they lie on disk, read without LeRobot and without torch."""
