"""`dissm-node demo`: the whole way of one CT through a node of its own, on this machine."""

from dicom_node.demo.run import run_demo

__all__ = ["run_demo"]
