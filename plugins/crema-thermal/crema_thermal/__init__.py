"""Temperature for CREMA models: radiometric images and heatmaps."""
