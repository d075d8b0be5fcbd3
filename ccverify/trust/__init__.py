"""Whom the verifier believes: pinned roots, certificate chains, signatures."""
