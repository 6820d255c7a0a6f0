"""A night over many sources: what is scanned, the review of it, who is told."""
