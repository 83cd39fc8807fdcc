"""Speed and memory, measured on the machine at hand. README.md says how and what the numbers mean."""
