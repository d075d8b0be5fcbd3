"""NVIDIA confidential computing: reports of GPUs and NVSwitches, certificates, manifests."""
