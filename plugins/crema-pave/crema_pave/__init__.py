"""PAVE (arXiv 2503.19794): a patch that adds what side tokens say to the visual tokens of a video language model."""
