"""Batch of images to logits, and how the weights begin.

This file has only the words that several modules of the room use, so that importing one of them stays cheap.
"""

IMAGENET = "imagenet"  # what `model.weights` says for the published weights
OTHERWISE = "or give a file of yours with model.weights: PATH"
