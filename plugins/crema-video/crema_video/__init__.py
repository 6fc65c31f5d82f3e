"""More video for CREMA models: densely sampled frames, and several cameras on one scene."""
