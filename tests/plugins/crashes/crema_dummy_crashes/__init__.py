"""Its modules end the process without an exception."""
