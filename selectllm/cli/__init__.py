"""The command line: parsing and printing, and nothing else."""
