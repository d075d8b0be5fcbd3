"""The outcome of a verification: verdicts and their renderings."""
