"""What all other code uses: options and flags, random numbers, processes."""
