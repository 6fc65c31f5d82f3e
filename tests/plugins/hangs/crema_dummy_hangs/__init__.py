"""Its light module never returns."""
