"""What people use: the `twin` command."""
