"""Loading of YAML and JSON into marked values, and the schema reader that checks them."""
