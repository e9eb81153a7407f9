"""The improvement cycle: iterations, stages, improvers, run directories, the gate and the report."""
