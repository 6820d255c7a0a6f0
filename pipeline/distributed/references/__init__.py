"""Making reference sets on a Ray cluster, and scoring beside them."""
