"""How much each unit of a group matters."""
