"""The command line: it parses, calls one function of the layers below, and prints."""
