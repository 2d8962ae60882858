"""Weights from elsewhere: ImageNet's to start from, those of other frameworks, and what any file of weights holds."""
