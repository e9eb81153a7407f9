"""What every environment with robosuite's Panda shares: control, stepping, scenes, placements, observations."""
