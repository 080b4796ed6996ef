"""The public classes: symbolic matrices with their data, their operators and their methods."""
