"""A tracking server for a group: MLflow on PostgreSQL, with users. It needs nothing of medtune."""
