"""Experts that read the simulator's privileged state."""
