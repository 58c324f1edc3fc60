"""Scores of models and of samples, beside those of real data: images, clips, texts and classes."""
