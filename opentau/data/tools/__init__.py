"""What people ask of a dataset before they train on it: what it holds, whether it is sound, how it looks, a cleaned copy.

Nothing here prints; `opentau data` shows what these functions return.
"""
