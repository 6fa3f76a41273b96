"""Which trial to believe, and how sure: from predictions to a choice, without training."""
