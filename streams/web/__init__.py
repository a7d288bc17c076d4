"""The worker's one HTTP port: metrics, probes, read-only API, page."""
