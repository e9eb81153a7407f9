"""Runs on other machines: following their events and steering them, under a lease."""
