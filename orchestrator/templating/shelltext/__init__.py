"""Shell text: where in it an expression stands, and how a value is written there."""
