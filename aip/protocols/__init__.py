"""Wire formats of others, translated to envelopes and back. What is here translates; it decides nothing."""
