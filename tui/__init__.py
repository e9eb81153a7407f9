"""The terminal screen of a run: watches its events and sends it commands; owns no truth and never imports torch."""
