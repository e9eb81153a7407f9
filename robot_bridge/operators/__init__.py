"""Whoever looks after a robot between episodes: implementations of `opentau.protocols.Operator`."""
