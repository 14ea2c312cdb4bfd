"""Datasets from the Hub and to it."""
