"""Collection inside the guest: sources of evidence, one session, one bundle.

Nothing that verifies imports this package; it alone, the command line and the fetchers of
collateral touch devices, files, clocks and randomness.
"""
