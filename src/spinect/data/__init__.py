"""From subjects and volumes to the tensors that networks see."""
