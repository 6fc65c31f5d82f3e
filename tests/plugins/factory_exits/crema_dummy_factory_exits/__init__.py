"""Its classes end the program when they are imported or made."""
