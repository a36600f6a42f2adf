"""The command line: parse, call one library function, print. Everything else lives below."""
