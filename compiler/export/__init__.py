"""One exporter per runtime."""
