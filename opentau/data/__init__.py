"""Datasets as training sees them: LeRobot v3 folders, statistics and codec, frame tables, batches, label tables.

Numpy, pyarrow and pillow only. Episodes come in through `DatasetWriter` and out through `Dataset`; a `FrameTable` holds the
frames of many datasets in flat arrays, `BatchSource` draws training batches from it, `Labels` keep what a critic said about
each frame beside the data, which is never rewritten.
"""
