"""robosuite's manipulation tasks with lean stepping: Lift, Stack, PickPlace, NutAssembly and Door."""
