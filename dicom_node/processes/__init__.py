"""The node's processes, and what puts its stages together."""
