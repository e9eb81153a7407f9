"""A human's hands on a robot: devices that implement `opentau.protocols.Teleop`."""
