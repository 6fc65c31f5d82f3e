"""What every room uses: writing whole or not at all, tensors on disk, text tables, processes, progress, environment."""
