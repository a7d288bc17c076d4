"""The lifecycle of a partition in a worker: open, restore, step, commit, close."""
