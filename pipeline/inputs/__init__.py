"""What is to be scored: prefixes, lists and inventories, listed into a run's manifest."""
