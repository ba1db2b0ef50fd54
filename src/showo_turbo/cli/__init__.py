"""The command line: one file a command, registered in `main`; heavy imports wait until a command runs."""
