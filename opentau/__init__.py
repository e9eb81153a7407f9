"""OpenTau improves robot policies in a loop; the package itself imports nothing."""

__version__ = "0.1.0"
