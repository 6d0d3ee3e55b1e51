"""Models that no library has, or has otherwise than they were published."""
