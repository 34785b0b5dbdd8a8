"""Reading and writing the APIs that clients speak. Pure: no I/O, no clock, nothing of the orchestrator."""
