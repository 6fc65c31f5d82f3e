"""The one way from sources to features: reading, encoding, keeping them in memory and on disk, sharing them."""
