"""A trained model in its folder, and what it says of pictures. Knows nothing of the sweep that it is from."""
