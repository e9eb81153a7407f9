"""Meta-World's tasks and their scripted experts; Meta-World itself lives in an interpreter of its own."""
