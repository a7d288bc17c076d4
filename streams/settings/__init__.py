"""The settings: which exist, which values they accept, and where the values come from."""
