"""The screens, one a file: which panels they are made of, and which keys only they have."""
