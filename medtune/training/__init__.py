"""One trial: a configuration, arrays and a function to report to. Knows nothing of Ray, Optuna or MLflow."""
