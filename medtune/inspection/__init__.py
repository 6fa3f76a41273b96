"""A trained model looked at with its images: test-time augmentation, MC dropout, corruptions, Grad-CAM."""
