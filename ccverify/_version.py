"""The version of ccverify; recorded in every verdict."""

__version__ = "0.1.0"
