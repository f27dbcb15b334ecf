"""The command line interface: it parses arguments, calls the package and prints the results."""
