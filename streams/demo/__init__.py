"""The demo: an embedded broker, realistic traffic, the worker, and a live view of the results in the terminal."""
