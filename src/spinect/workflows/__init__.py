"""What the commands do, as functions: one case, many cases, the demo, datasets, registration.

Nothing is imported here: checking or registering a dataset needs no torch.
"""
