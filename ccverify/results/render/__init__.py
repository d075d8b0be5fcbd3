"""Verdicts and documents, shown: to a person (`table`) or to a program (`json`).

Rendering is pure: values in, text out.  Terminals, files and encodings are the business of
`ccverify.cli`.
"""
