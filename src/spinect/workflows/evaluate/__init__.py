"""`evaluate`: the results of one or several methods against the truth of a dataset."""
