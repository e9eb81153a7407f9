"""Checkpoints of other projects: LeRobot, openpi's PyTorch port and TensorAuto OpenTau, in; LeRobot's layout, out."""
