"""Properties that every transport must have, with every shell."""
