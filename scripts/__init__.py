"""What people, the hook and CI run."""
