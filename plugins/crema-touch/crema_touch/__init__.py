"""Touch for CREMA models: images of GelSight-like tactile sensors."""
