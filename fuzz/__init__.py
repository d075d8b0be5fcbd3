"""Coverage-guided fuzzing of every parser and of `ccverify.check` (docs/fuzzing.md)."""
