"""A package that extends graphpress."""
