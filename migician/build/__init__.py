"""From sources and tasks to a dataset on disk."""
