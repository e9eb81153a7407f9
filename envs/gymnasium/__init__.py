"""Any gymnasium environment, also one of another Python, as an environment of ours."""
