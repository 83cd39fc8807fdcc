"""Phantoms for training and tests: stored anatomies, frozen test phantoms, the figure that compares them with CTs."""
