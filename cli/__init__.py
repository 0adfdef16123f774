"""The command line: handling of arguments and presentation, nothing else."""
