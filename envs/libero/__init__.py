"""LIBERO's tasks as gymnasium environments, with stock stepping or a lean one."""
