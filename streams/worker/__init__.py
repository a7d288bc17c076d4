"""A partition's life in a worker: opened, restored, stepped, committed, closed."""
