"""What MLflow sees of a sweep: a spool on disk, and one process that carries it over."""
