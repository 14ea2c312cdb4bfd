"""From a benchmark and a model to records and a report, stopped and resumed at will."""
