"""Small pre-trained parts of a policy: fetched by `opentau parts`, converted once, and read by `small`."""
