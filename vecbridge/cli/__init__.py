"""The command line: one file a command. Only this room imports typer, rich and sqlglot."""
