"""A robot and everything local to it: its loop in real time, limits, stop, takeover, and the environment that they make."""
