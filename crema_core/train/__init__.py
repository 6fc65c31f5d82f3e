"""The training room: settings, phases, the loop, checkpoints and the run directory."""
