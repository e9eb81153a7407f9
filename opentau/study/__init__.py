"""Studies: variants of a loop over seeds and tasks, compared on equal placements."""
