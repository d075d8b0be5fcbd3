"""What a tenant expects, and whether the evidence meets it."""
