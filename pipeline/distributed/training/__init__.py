"""Training on a Ray cluster, from labelled data to a checkpoint."""
