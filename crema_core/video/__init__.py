"""The built-in sense of RGB video, written exactly as a plugin outside this package is."""
