"""Many trials: what runs next, what is stopped, and the ledger of what was tried."""
