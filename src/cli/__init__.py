"""The command line. Heavy modules (SDKs, the store, rich) are imported inside the commands that need them."""
