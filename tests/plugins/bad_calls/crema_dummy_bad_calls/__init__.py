"""A modality that fails when it is called, one way for each value of an option."""
