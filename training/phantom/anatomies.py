"""The stored anatomies under the name of their stage."""

from training.phantom.storage import StoredAnatomy, load_anatomy

__all__ = ["StoredAnatomy", "load_anatomy"]
