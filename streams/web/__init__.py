"""The worker's HTTP server on a single port: metrics, probes, read-only API, pages."""
