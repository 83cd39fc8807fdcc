"""`python -m dicom_node` is `dissm-node`."""

from dicom_node.cli.app import main

if __name__ == "__main__":
    main()
