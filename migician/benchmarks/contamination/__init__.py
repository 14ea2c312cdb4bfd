"""Which images a benchmark uses, so that no training set holds one."""
