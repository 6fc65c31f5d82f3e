"""A fusion, a backbone family, a metric and a preset of somebody else."""
