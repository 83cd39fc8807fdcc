"""The adapters of pydicom and pynetdicom: whatever touches their insides, or works round one of their faults."""
