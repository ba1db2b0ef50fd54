"""Serving: many requests at once, each with the result it has alone."""
