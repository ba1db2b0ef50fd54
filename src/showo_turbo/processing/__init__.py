"""Convert user input (texts, images) to model input (ids, pixels) and back."""
