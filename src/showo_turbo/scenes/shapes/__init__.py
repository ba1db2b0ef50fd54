"""The world of colored shapes."""
