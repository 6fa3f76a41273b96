"""From logits and labels to numbers and pictures; knows nothing of torch, Ray, Optuna or MLflow."""
