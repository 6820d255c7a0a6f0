"""Evaluation on a Ray cluster: labelled data scored, its maps measured."""
