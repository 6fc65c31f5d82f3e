"""`crema extract`: RGB videos in, files of depth, flow and normals out."""
