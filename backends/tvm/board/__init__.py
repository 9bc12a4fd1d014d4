"""Models for boards: the programs that check and time them there, and the emulator that runs them here."""
