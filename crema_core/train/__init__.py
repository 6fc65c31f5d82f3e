"""The training room: settings, early exit, the loop, checkpoints and the run directory."""
