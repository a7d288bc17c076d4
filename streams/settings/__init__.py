"""The settings: what can be set, which values are taken, where they come from."""
