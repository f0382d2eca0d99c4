"""The conversation stores."""
