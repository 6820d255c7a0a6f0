"""Measurements of the pipeline and its model on the user's own hardware."""
