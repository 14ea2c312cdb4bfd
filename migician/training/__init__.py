"""From datasets to a trained checkpoint: mix, check, watch, resume, merge."""
