"""Files that a CPO leaves somewhere: read record by record, each taken once."""
