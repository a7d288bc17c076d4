"""What people write: settings and trigger files, loaded strictly, with every problem reported at once."""
