"""The command line: one module per command, found here by name and imported only when it is called."""
