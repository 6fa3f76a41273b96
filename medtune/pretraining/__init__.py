"""Encoders trained without labels, and what they are worth with a few: knows no engine, as `training`."""
