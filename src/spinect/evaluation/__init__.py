"""The judge: compares volumes, whoever made them. Imports neither methods nor training."""
