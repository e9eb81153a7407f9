"""Arms and their parts: the SO-101's servo bus and driver, its calibration, cameras, and an emulated bus for tests."""
