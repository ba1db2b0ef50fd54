"""Between what a user holds (texts, images) and what the model reads (ids, pixels)."""
