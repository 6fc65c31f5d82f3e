"""A fusion, a backbone family, an encoder, a metric and a preset of somebody else."""
