"""Its light modules end the program, one way each."""
