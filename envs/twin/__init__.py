"""Twins of real arms: simulations of their geometry, servos and units, to try out whatever is meant for the hardware."""
