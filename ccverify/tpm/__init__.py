"""TPM 2.0 quotes (TCG TPM 2.0 Library, Part 2): parsed and verified, without any I/O."""
