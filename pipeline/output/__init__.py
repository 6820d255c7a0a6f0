"""The output folder: the rows of its score table, who may write it, how it is kept small."""
