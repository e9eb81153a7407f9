"""Option groups that Hydra composes; every value here is a default that the command line can override."""
