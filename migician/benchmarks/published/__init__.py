"""What papers ask and report on MIG-Bench."""
