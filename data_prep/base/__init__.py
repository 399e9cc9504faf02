"""What all of the code stands on: options and flags, random numbers, processes."""
