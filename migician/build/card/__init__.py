"""The card of a dataset: what is in it, what was left out and why."""
