"""What was chosen, trained on all of train: models with their weights, and enough beside them to rebuild them."""
