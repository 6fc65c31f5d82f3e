"""Discovery of installed modalities: what a package declares, which packages are there, which one a name means."""
