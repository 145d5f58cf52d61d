"""What every transport must keep, with every shell."""
