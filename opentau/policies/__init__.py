"""Policies of the π family: configuration, tokenizers, the assembled model, and the policy that answers requests."""
