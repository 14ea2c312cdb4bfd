"""Forms of files that several readers of sources share."""
