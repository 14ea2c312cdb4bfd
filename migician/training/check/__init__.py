"""All that is wrong with a dataset or a training YAML, before a GPU-hour is spent on it."""
