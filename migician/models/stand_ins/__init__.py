"""Models that need no weights, or random ones: for tests, dry runs and the quickstart."""
