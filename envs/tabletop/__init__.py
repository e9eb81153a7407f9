"""The tabletop environment for tests."""
