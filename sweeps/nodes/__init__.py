"""Ray itself, and the driver's own work on its nodes."""
