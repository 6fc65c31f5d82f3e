"""Its hooks and verbs end the program or return nonsense."""
