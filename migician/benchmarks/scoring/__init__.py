"""How replies become records: one module for each kind of answer and each published rule set."""
