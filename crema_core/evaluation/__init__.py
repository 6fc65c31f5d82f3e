"""The evaluation room: scoring rules and the pass over a data set."""
