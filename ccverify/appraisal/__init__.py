"""The parts of a node, each verified and judged; `ccverify.verifier` puts them together."""
