"""From logits and labels to numbers; knows nothing of torch, Ray, Optuna or MLflow."""
