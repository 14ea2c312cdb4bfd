"""The MGrounding record and files of them: the one currency between data and training."""
