"""The service that CPOs call: OCPI push and plain observations. Writes through the same writer as everything else."""
