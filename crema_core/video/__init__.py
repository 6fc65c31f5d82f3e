"""The built-in modality of RGB video, written exactly as a plugin outside this package is."""
