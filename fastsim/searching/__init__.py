"""Search: the highest rate a configuration serves under limits, and the best of many configurations per dollar."""
