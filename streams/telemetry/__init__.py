"""Facts to metrics and logs; the only package that knows prometheus_client."""
