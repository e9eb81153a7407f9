"""The command line: a table of commands, their options composed by Hydra, progress drawn by Rich."""
