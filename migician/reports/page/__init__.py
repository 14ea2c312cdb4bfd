"""Pages that need no server: over runs, and over a dataset."""
