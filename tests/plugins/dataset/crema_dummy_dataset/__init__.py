"""A data set of somebody else."""
