"""Batch of images to logits, and how the weights begin."""
