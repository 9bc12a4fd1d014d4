"""The command line: ``optimize MODEL`` and the commands beside it. It parses, calls the API and prints."""
