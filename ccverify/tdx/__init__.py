"""Intel TDX: quotes, collateral, TCB levels, event logs."""
