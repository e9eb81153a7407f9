"""Objectives, optimiser and the one trainer."""
