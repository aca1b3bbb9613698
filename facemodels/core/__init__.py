"""TODO: map."""
