"""The reading and writing room: nothing outside it renames a folder into place."""
