"""Evidence in other people's formats, read into one small model.

Nothing here is verified or judged: every module turns foreign text into `ForeignEvidence`.
`ccverify.interop.detect.parse_foreign_evidence` finds the format by the content.
"""
