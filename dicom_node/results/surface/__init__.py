"""The mesh as a DICOM Surface Segmentation, written and read by our own code (C6)."""
