"""Captures: pictures of the result for every viewer, also for those that show no segmentation."""
