"""Point clouds for CREMA models: where things are, also behind the viewer."""
